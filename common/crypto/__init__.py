"""Keys, certificates, tokens and canonical bytes: what both sides use to prove who said what."""
