"""The nine agents of a decision, one module each. Each has a plan, made when a configuration is
loaded, and one entry point that runs it. None knows of asyncio, a socket or a file.

    server.py           1  server & lifecycle: the configuration in force, and whether it can be
    admission.py        2  admission & raw state: which credentials a request carries
    forward_policy.py   3  forward request policy: what of it rules may hand on
    variables.py        4  endpoint variables
    chain.py            5  rule chain: which rule next, and when to stop
    execution.py        6  rule execution: credentials, conditions, exports (rule.py is a rule,
                           compiled; matching.py matches)
    backend.py          7  backend interaction: what is asked, and how its answer is seen
    response.py         8  response policy: what is answered
    caching.py          9  result caching: what is kept, under which key, for how long
                           (memory.py keeps; recall.py remembers whole answers)

`compiling.py` is what compiling them shares, `evaluation.py` what running them shares.
"""
