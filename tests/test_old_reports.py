"""A report that other code made is written again, with or without Snakemake's records of it."""

from spineseg.study.old_reports import note_old_report


def test_only_a_report_by_other_code_is_out_of_date(tmp_path):
    page, note = tmp_path / "report.html", tmp_path / "note"
    note_old_report(page, "abc", note)
    assert (note.read_text(), note.stat().st_mtime) == ("", 0)  # there is no report yet
    page.write_text('<meta name="code" content="abc">')
    note_old_report(page, "abc", note)
    assert (note.read_text(), note.stat().st_mtime) == ("", 0)
    note_old_report(page, "abd", note)
    first = note.read_text()
    assert note.stat().st_mtime >= page.stat().st_mtime
    note_old_report(page, "abd", note)  # as long as it is out of date
    assert first not in ("", note.read_text())
    note_old_report(page, "abc", note)  # the earlier code again
    assert (note.read_text(), note.stat().st_mtime) == ("", 0)
    page.write_text("a page of a version that names no code")
    note.unlink()
    note_old_report(page, "abc", note)
    assert note.read_text()
