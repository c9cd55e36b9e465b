"""The pages: sign in, see one's terminals, start one, attach to it, watch a recording.

routes.py      the pages, and the one place that offers all routes
signing_in.py  signing in and out
answers.py     what every answer carries: the policy of content, no caching, no framing
assets.py      scripts and styles, under names that change with them
templates/     HTML        assets/  scripts and styles of our own, as they are written
static/        xterm.js, put here when the package is built
"""
