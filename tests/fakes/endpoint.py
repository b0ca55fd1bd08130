"""A FakeEndpoint speaks enough of OpenAI's chat API, and fails as a script says.

It serves the tests and benches of the engine.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeHandler(BaseHTTPRequestHandler):
    """Quiet, with a whole answer in one call."""

    def reply(self, payload: bytes, kind: str = "application/json", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


class FakeServer(ThreadingHTTPServer):
    """Serves in a thread from its making until the end of its `with` block."""

    daemon_threads = True
    request_queue_size = 1000

    def __init__(self, handler: type[FakeHandler]):
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_):  # clients that leave in the middle
        pass

    def __exit__(self, *_):
        self.shutdown()  # else its thread would spin on the closed socket
        self.server_close()


class FakeEndpoint(FakeServer):
    """`with FakeEndpoint(["500", "cut", "ok"]) as server: server.url`.

    Each request takes the next word of the script; the last word answers all further requests.
    Words: ok, slow, 429, 400, 401, 500, cut (the connection ends in the middle), garbage (a page of
    HTML), odd (JSON of another form), short (fewer answers than asked), thinks, thinks on (cut off
    while thinking), dead (no answer, connection closed), mute (headers, then nothing), silent (not
    even those), drip (a byte now and then), endless (bytes without end), `429 SECONDS` (with that
    Retry-After), 302 and the like. What is no text is the body of an answer, as JSON or bytes.
    """

    def __init__(self, script=("ok",), seconds: float = 0.0):
        self.script = list(script)
        self.seconds = seconds
        # (word, body) of every request.
        self.seen = []
        # Requests at work now, and the most at once.
        self.busy = 0
        self.busiest = 0
        self.ended = False
        self._lock = threading.Lock()
        outer = self

        class Handler(FakeHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    word = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                    outer.seen.append((word, body))
                    outer.busy += 1
                    outer.busiest = max(outer.busiest, outer.busy)
                try:
                    outer.answer(self, word, body)
                finally:
                    with outer._lock:
                        outer.busy -= 1

        super().__init__(Handler)
        self.url += "/v1"

    def dally(self, to: BaseHTTPRequestHandler, word: str) -> None:
        """Keep the connection until the client leaves, and give it nothing of use."""
        to.close_connection = True
        if word != "silent":
            to.send_response(200)
            to.send_header("Content-Type", "application/json")
            to.end_headers()
        while not self.ended:
            if word == "endless":
                to.wfile.write(b" " * 2**16)
                continue
            time.sleep(0.1)
            if word == "drip":
                to.wfile.write(b" ")

    def __exit__(self, *error):
        self.ended = True
        super().__exit__(*error)

    def answer(self, to: BaseHTTPRequestHandler, word: str, body: dict) -> None:
        time.sleep(self.seconds + (0.3 if word == "slow" else 0))
        if word in ("mute", "silent", "drip", "endless"):
            self.dally(to, word)
            return
        if not isinstance(word, str):
            to.reply(word if isinstance(word, bytes) else json.dumps(word).encode())
            return
        word, _, retry_after = word.partition(" ") if word[:1].isdigit() else (word, "", "")
        if word == "dead":
            to.close_connection = True
            to.connection.close()
            return
        text = f"echo {body['messages'][-1]['content']}"
        text = {
            "thinks": f"<think>\nhm, {text}?\n</think>\n\n{text}",
            "thinks on": "<think>\nwell, if",
        }.get(word, text)
        choices = [
            {
                "index": k,
                "finish_reason": "length" if word == "thinks on" else "stop",
                "message": {"role": "assistant", "content": text},
            }
            for k in range(body.get("n") or 1)
        ]
        data = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": choices[:1] if word == "short" else choices,
            "usage": {
                "prompt_tokens": 1,
                "completion_tokens": 3 * len(choices),
                "total_tokens": 1 + 3 * len(choices),
            },
        }
        if word == "odd":
            data = {"choices": None}
        payload = json.dumps(
            {"error": {"message": f"scripted {word}"}} if word.isdigit() else data
        ).encode()
        if word == "garbage":
            payload = b"<html>502 Bad Gateway</html>"
        to.send_response(int(word) if word.isdigit() else 200)
        to.send_header("Content-Type", "text/html" if word == "garbage" else "application/json")
        to.send_header("Content-Length", str(len(payload)))
        if word == "429":
            to.send_header("Retry-After", retry_after or "0.2")
        if word.startswith("3"):
            to.send_header("Location", "/v1/chat/completions")
        to.end_headers()
        to.wfile.write(payload[: len(payload) // 2] if word == "cut" else payload)
        if word == "cut":
            to.close_connection = True
            to.connection.close()


def answered(engine, conversations: list[list[dict]], n: int = 1) -> list:
    """The completions of each conversation; all are asked before the first is waited for."""
    futures = [engine.submit(messages, n) for messages in conversations]
    return [future.result() for future in futures]
