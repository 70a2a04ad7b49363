"""`guard-service evaluate`: figures in files, and mistakes found before the long work."""

import json
from pathlib import Path

from tests.command import run, run_beside
from tests.serving import running_server


def labelled(folder: Path, *texts: str) -> Path:
    file = folder / "rows.jsonl"
    rows = [
        {
            "id": text,
            "source": "made up",
            "role": "user",
            "messages": [{"role": "user", "content": text}],
            "label": "unsafe" if "bomb" in text else "safe",
            "categories": ["S1"] if "bomb" in text else None,
        }
        for text in texts
    ]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


async def test_evaluate_measures_a_server_and_counts_what_it_refuses(tmp_path):
    rows = labelled(tmp_path, "a bomb", "bombs", "bread", "butter", " ")
    output, plot, scores = (tmp_path / name for name in ("r.json", "pr.png", "scores.jsonl"))
    wanted = [f"--output={output}", f"--plot={plot}", f"--scores={scores}"]
    async with running_server() as service:
        finished = await run_beside("evaluate", str(rows), *wanted, "--target", service.target)

    assert finished.status == 0, finished.error
    assert "1 unjudged: InvalidRequest" in finished.output
    results = json.loads(output.read_text(encoding="utf-8"))
    assert results["overall"]["num_unjudged"] == 1
    assert results["overall"]["figures"]["f1"]["value"] == 1
    assert results["categories"]["S1"]["figures"]["recall"]["value"] == 1
    assert len(scores.read_text(encoding="utf-8").splitlines()) == 5
    assert plot.stat().st_size > 0


def test_evaluate_finds_out_where_it_cannot_write_before_it_judges(tmp_path):
    rows = labelled(tmp_path, "bread")

    finished = run("evaluate", str(rows), "--output", str(tmp_path / "nowhere" / "r.json"))

    assert finished.status == 78
    assert "there is no such folder" in finished.one_line


def test_evaluate_names_the_row_that_cannot_be_used(tmp_path):
    rows = labelled(tmp_path, "bread")
    rows.write_text('{"id": "1"}\n', encoding="utf-8")

    finished = run("evaluate", str(rows), "--output", str(tmp_path / "r.json"))

    assert finished.status == 78
    assert finished.one_line.startswith(f"{rows}, line 1: ")
