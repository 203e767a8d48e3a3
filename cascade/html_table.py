"""The HTML that notebooks show for policies, score tables and evaluations."""

import html
from collections.abc import Sequence

__all__ = ["html_table"]


def html_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str] = ()) -> str:
    """A titled table as a self-contained fragment: no scripts, no styles, no links.

    Args:
        title: shown above the table.
        header: m names of columns.
        rows: of m cells each; floats are shown with four digits, ``None`` as an empty cell.
        notes: lines below the table; empty ones are left out.

    Returns:
        HTML in which all text is escaped.
    """
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
    below = "".join(f"<div>{html.escape(note)}</div>" for note in notes if note)
    return (
        f"<div><div><strong>{html.escape(title)}</strong></div>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}</div>"
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    return html.escape(f"{value:.4g}" if isinstance(value, float) else str(value))
