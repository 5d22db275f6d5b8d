"""The vendors on loopback, in their own wire format: what the demo and the tests talk to.

It shares no code with the connectors, so that the two check each other.
"""
