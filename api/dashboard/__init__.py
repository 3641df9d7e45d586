"""The dashboard: pages over the doors for people with a browser, below `/` and `/ui` (design 9).

One module per page; `shell` renders them all, `templates/` holds what they look like, `static/` the style and the
scripts. Pages are whole without JavaScript; with it they stay up to date, show times in the reader's zone and take
keys. Nothing is fetched from other hosts.
"""
