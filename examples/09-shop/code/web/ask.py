"""Ask an HTTP server: METHOD URL [seconds to wait until it answers]; prints the answer."""

import sys
import time
import urllib.error
import urllib.request

method, url = sys.argv[1:3]
until = time.monotonic() + float(sys.argv[3] if len(sys.argv) > 3 else 0)
while True:
    try:
        request = urllib.request.Request(url, data=b"" if method == "POST" else None, method=method)
        with urllib.request.urlopen(request, timeout=5) as answer:
            sys.stdout.write(answer.read().decode())
        break
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        if time.monotonic() > until:
            sys.exit(f"{method} {url}: {error}")
        time.sleep(0.1)
