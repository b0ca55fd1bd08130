"""The four environments. A fifth is one file here and one line below."""
from kit.environments.abduction import Abduction
from kit.environments.base import Environment, InfrastructureError, Reason, Rejected, Verdict, grade_all
from kit.environments.deduction import Deduction
from kit.environments.fuzzing import Fuzzing
from kit.environments.induction import Induction
from kit.profile import Rounds

KINDS = {kind.name: kind for kind in (Induction, Abduction, Deduction, Fuzzing)}


def make(rounds: Rounds) -> dict[str, Environment]:
    """Every environment by name, with a profile's form of the ask, number of pairs, of visible pairs, and abduction's equality."""
    return {name: kind(rounds.form, rounds.inputs, rounds.visible, rounds.equality) for name, kind in KINDS.items()}


__all__ = ["KINDS", "Environment", "InfrastructureError", "Reason", "Rejected", "Verdict", "grade_all", "make"]
