"""Inside the machine: the door's owner with a browser without JavaScript, who unlocks, or takes the model that is published.

    python owner.py PORT TOKEN unlock|install

Prints what the page says of it in the end.
"""

from __future__ import annotations

import re
import sys
import time
from http.client import HTTPConnection
from urllib.parse import urlencode

TOOK_S = 600.0


class Owner:
    """Logged in: a cookie, and the words of the forms that were seen last."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._cookie, self._words = port, "", {}
        self.page("/login", token=token)

    def page(self, path: str, **form: str) -> str:
        """A page; with a form, the one to which sending it leads."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        headers = {"Cookie": self._cookie} if self._cookie else {}
        if form:
            headers |= {"Origin": f"http://127.0.0.1:{self._port}", "Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", path, urlencode(self._words | form), headers)
        else:
            connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        if cookie := answer.getheader("Set-Cookie"):
            self._cookie = cookie.partition(";")[0]
        self._words |= dict(re.findall(r'name="(form|confirm)" value="([^"]+)"', text))
        if answer.status >= 400:
            raise SystemExit(f"{path}: {answer.status} {text[-300:]}")
        return self.page(answer.getheader("Location", "/").partition("#")[0]) if answer.status == 303 else text


def main(port: int, token: str, what: str) -> None:
    owner = Owner(port, token)
    owner.page("/")
    if what == "unlock":
        owner.page("/ask", wish="unlock")  # asks whether that is meant
        print(_words(owner.page("/confirm", sure="yes")))
        return
    owner.page("/install", sure="yes")
    until_s = time.monotonic() + TOOK_S
    while not re.search("float32.*is installed:|is not taken:|try failed", said := _words(owner.page("/machine"))) and time.monotonic() < until_s:
        time.sleep(2)
    print(said)


def _words(page: str) -> str:
    return " ".join(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL).split())


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
