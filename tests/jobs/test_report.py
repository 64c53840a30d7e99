import json
import math
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from jobs.report import Media, Report, score_table, write_report

REPORT = Report(
    title="A <b>report</b>",
    columns=("untrained", "stage1"),
    scores={
        "vipseg": {"vpq": {"untrained": 0.5, "stage1": 12.25}, "stq": {"untrained": 1.0}},
        "davis_2017": {"jf": {"untrained": 3.0, "stage1": 70.0}},
    },
    primary={"vipseg": "vpq", "davis_2017": "jf"},
    facts={"commit": "cafe"},
    plots=(Media(caption="loss", mime="image/svg+xml", content=b"<svg/>"),),
    overlays=(
        Media(caption="clip", mime="video/mp4", content=b"film"),
        Media(caption="still", mime="image/png", content=b"picture"),
    ),
    seconds=61.26,
    peak_rss_bytes=3 << 30,
    mlflow_uri="sqlite:////tmp/mlflow.db",
)


class Page(HTMLParser):
    """The parts of a report that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: dict[str, str] = {}
        self.cells: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if "src" in dict(attrs) or "href" in dict(attrs):
            self.sources[tag] = dict(attrs).get("src", "")
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data):
        if self.rows and data.strip():
            self.rows[-1].append(data.strip())


def test_report_for_machines_holds_every_score(tmp_path):
    write_report(tmp_path / "deep", REPORT)
    body = json.loads((tmp_path / "deep/report.json").read_text())
    assert body == {
        "benchmarks": REPORT.scores,
        "seconds": 61.3,
        "peak_rss_bytes": 3 << 30,
        "mlflow_uri": "sqlite:////tmp/mlflow.db",
        "facts": {"commit": "cafe"},
    }


def test_report_for_people_is_one_file_with_scores_plots_and_films(tmp_path):
    write_report(tmp_path, REPORT)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.sources == {
        "img": "data:image/png;base64,cGljdHVyZQ==",
        "video": "data:video/mp4;base64,ZmlsbQ==",
    }
    assert "data:image/svg+xml;base64,PHN2Zy8+" in text
    assert ["vipseg", "vpq", "0.5", "12.2"] in page.rows
    assert ["vipseg", "stq", "1.0", "-"] in page.rows
    assert ["commit", "cafe"] in page.rows
    assert "61 s, peak memory 3.00 GiB" in text
    assert "http" not in text


def test_names_from_data_are_text_in_the_report(tmp_path):
    write_report(tmp_path, REPORT)
    text = (tmp_path / "report.html").read_text()
    assert "<b>" not in text
    assert "A &lt;b&gt;report&lt;/b&gt;" in text


def test_score_that_is_no_number_is_refused_and_leaves_the_last_report(tmp_path):
    write_report(tmp_path, REPORT)
    before = (tmp_path / "report.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(tmp_path, replace(REPORT, scores={"vipseg": {"vpq": {"stage1": math.nan}}}))
    assert (tmp_path / "report.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_table_for_a_terminal_has_a_row_per_metric():
    lines = score_table(REPORT).splitlines()
    assert lines[0].split() == ["benchmark", "metric", "untrained", "stage1"]
    assert [line.split() for line in lines[2:]] == [
        ["vipseg", "vpq", "0.5", "12.2"],
        ["vipseg", "stq", "1.0", "-"],
        ["davis_2017", "jf", "3.0", "70.0"],
    ]
    assert len({len(line) for line in lines}) == 1
