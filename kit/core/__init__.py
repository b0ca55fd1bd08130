"""The ground: words, records, profiles, programs, statistics that all stages share."""
