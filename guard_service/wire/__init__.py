"""The contract's words and the domain's, in pairs: `x_to_wire` and `x_from_wire`.

What comes from the wire is checked: a request that names no domain value is `InvalidRequest`, a
reply that is not a whole and consistent verdict is `UnreadableVerdict`.
"""
