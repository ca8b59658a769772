"""A run in the browser: `factory studio RUN`. Each page shows what the warehouse says, and does what a command does.

server    listens on 127.0.0.1 and prints the link
guard     who may ask: token, host, origin; and what a page may load
desk      the run at hand: reading it, writing to it, the command that does the same
views     templates, forms, answers for pages and for parts of them
programs  the pages of the programs
texts     the pages of the texts
results   report, try
card      the task card: its words, their price, the way back
work      the first files, the pipeline, start and stop
runner    a run as a process of its own (`child`)

`static/htmx.min.js` is htmx 2.0.10 (https://htmx.org, Zero-Clause BSD) as it was published, SHA-256 71ea67185bfa8c98...; a test
holds it to that. The pages work without it, and without any script.
"""
