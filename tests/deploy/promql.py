"""What PromQL expressions ask for, read by a real parser."""

from typing import Any

import promql_parser

GIVEN = {"up", "ALERTS"}
"""What Prometheus itself adds."""


def metric_names(expression: str) -> set[str]:
    """Every metric an expression reads.

    Raises:
        ValueError: it is not PromQL.
    """
    return _names(promql_parser.parse(expression))


def _names(node: Any) -> set[str]:
    match node:
        case promql_parser.VectorSelector():
            return {node.name}
        case promql_parser.MatrixSelector():
            return {node.vector_selector.name}
        case promql_parser.BinaryExpr():
            return _names(node.lhs) | _names(node.rhs)
        case promql_parser.Call():
            return set().union(*map(_names, node.args))
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return set()
        case _:  # an aggregation, parentheses, a sign, a subquery
            return _names(node.expr)
