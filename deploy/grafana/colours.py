"""What a colour means, on every panel alike. Readable on a dark and on a light page."""

GREEN, PALE_GREEN = "#56a64b", "#a3d39c"
RED, PALE_RED = "#e02f44", "#f29aa3"
BLUE, PALE_BLUE = "#3274d9", "#8ab8ff"
PURPLE, PALE_PURPLE = "#a352cc", "#ca95e5"
ORANGE, YELLOW, TEAL = "#ff780a", "#e0b400", "#14908f"
GREY, PALE_GREY = "#8a8f98", "#bfc3c9"

OUTCOMES = {
    "answered": GREEN,
    "prompt_blocked": BLUE,
    "response_blocked": PURPLE,
    "refused": GREY,
    "busy": YELLOW,
    "guard_unavailable": RED,
    "generator_failed": ORANGE,
    "out_of_time": TEAL,
    "failed": PALE_RED,
}
VERDICTS = {
    "prompt safe": GREEN,
    "response safe": PALE_GREEN,
    "prompt unsafe": RED,
    "response unsafe": PALE_RED,
}
PHASES = {"prompt": BLUE, "response": PURPLE}
PHASE_QUANTILES = {
    "prompt p50": PALE_BLUE,
    "prompt p99": BLUE,
    "response p50": PALE_PURPLE,
    "response p99": PURPLE,
}
WITHOUT_VERDICT = {
    "prompt blocked": BLUE,
    "response blocked": PURPLE,
    "prompt passed": RED,
    "response passed": PALE_RED,
}
BLOCKS_WITHOUT_VERDICT = {"prompt none": GREY, "response none": PALE_GREY}
DROPPED = {"shed": ORANGE, "expired": RED, "failed": PURPLE, "cancelled": GREY}
