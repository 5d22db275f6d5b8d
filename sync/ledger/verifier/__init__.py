"""The verifier that an auditor gets: `verify_bundle.py`, which shares no code with the rest."""
