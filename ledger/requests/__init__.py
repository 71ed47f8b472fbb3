"""Requests of people about their data: the register, what is told of them, and what is done with them by themselves.

A person asks in the browser that holds the key of the visitor id, or by letter; the controller is told, and instructs;
the ledger acts on that instruction alone. Each step is an act of the administrative log, recorded before it is taken.
"""
