"""Records of consent for people and for other systems: renderings of one stored event. Pure; the ledger receipt is the
evidence, and every rendering carries it or points to it.
"""
