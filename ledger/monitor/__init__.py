"""`monitor`: the auditor's continuous watch over a log, from outside and over HTTP.

It follows the checkpoints of one log at one or several URLs, keeps what it verified in a directory of its own, and
tells by exit code, log line, metric and webhook what is wrong. It needs nothing of the operator but the read API, and
trusts nothing but the keys it was started with. What is concluded from what was seen is core/watch and core/follow.
"""
