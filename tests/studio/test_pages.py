"""What the pages show and do: programs, texts, one text, the run as a whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from factory.programs import manage, stage
from factory.studio.programs import _rows_of, rules_source
from factory.studio.views import pieces
from factory.warehouse.file import Warehouse
from tests.studio.made import client_of, make, post


@pytest.fixture
def warehouse() -> Warehouse:
    return make()


@pytest.fixture
def client(warehouse: Warehouse) -> TestClient:
    return client_of(warehouse)


@pytest.fixture(scope="module")
def unchanged() -> TestClient:
    return client_of(make())


def words(html: str) -> str:
    """What a page says, without its tags and with single blanks."""
    return " ".join(re.sub(r"<[^>]+>", " ", html.split("<main")[-1]).split())


def numbers(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'data-text="(\d+)"', html)]


def rule(
    kind: str = "word", value: str = "", label: str = "spam", weight: str = "", beside: str = "", unless: str = ""
) -> Any:
    return {"kind": kind, "value": value, "label": label, "weight": weight, "with": beside, "unless": unless}


def rules_form(*rows: dict[str, str], **more: str) -> dict[str, Any]:
    return {"kind_of_program": "rules", **{name: [row[name] for row in rows] for name in rule()}, **more}


# Programs -------------------------------------------------------------------------------------------------------------------
def test_the_table_has_snorkels_columns_and_accuracy_with_its_interval(client: TestClient) -> None:
    page = words(client.get("/programs").text)
    assert "win accepted rules by hand spam 50.0% 16.7% 16.7% 100.0% 21–100, n 1" in page
    assert "great accepted rules by hand ham 50.0%" in page
    assert "factory programs list runs/small" in page
    html = client.get("/programs?sort=name&order=asc").text
    assert html.index("/programs/2") < html.index("/programs/1")
    assert client.get("/programs?sort=DROP").status_code == 200


def test_a_draft_shows_what_it_matches_and_what_would_change(client: TestClient) -> None:
    form = rules_form(rule(value="prize"), rule(value="nothing", label="ham"), name="draft")
    shown = post(client, "/programs/try", form, part=True)
    page = words(shown.text)
    assert "<html" not in shown.text
    assert "votes 30 of 60 texts" in page
    assert "new 10" in page
    assert "ham 10 spam 20" in page
    assert "<mark>prize</mark>" in shown.text
    whole = post(client, "/programs/try", form)  # without JavaScript: the page again, with the draft in it
    assert "<html" in whole.text
    assert 'value="prize"' in whole.text
    assert "votes 30 of 60 texts" in words(whole.text)
    refused = post(client, "/programs/try", rules_form(rule(kind="regex", value="(")), part=True)
    assert "the rules are refused: rule 1" in words(refused.text)


def test_a_program_is_added_edited_restored_rejected_and_approved_as_the_commands_do(
    client: TestClient, warehouse: Warehouse
) -> None:
    added = post(client, "/programs", rules_form(rule(value="nothing", label="ham"), rule(), name="silence"))
    assert "Program 3 is accepted" in added.text
    edited = post(client, "/programs/3/edit", rules_form(rule(value="say", label="ham")))
    assert "Program 4 supersedes 3" in edited.text
    assert "Against version 3" in edited.text
    assert "Go back to this version" in client.get("/programs/3").text
    assert "Program 5 supersedes 4" in post(client, "/programs/3/restore").text
    post(client, "/programs/decide", {"program": ["1", "5"], "what": "reject", "reason": "too broad"})
    post(client, "/programs/decide", {"program": "1", "what": "approve"})
    states = warehouse.query("SELECT program_no, state FROM programs ORDER BY 1")
    assert states == [(1, "accepted"), (2, "accepted"), (3, "superseded"), (4, "superseded"), (5, "rejected")]
    events = warehouse.query(
        "SELECT state, reason, actor FROM program_events WHERE program_no IN (1, 5) ORDER BY happened_at, 1"
    )
    assert ("rejected", "too broad", "Ann") in events
    assert ("accepted", None, "Ann") in events
    assert "too broad" in client.get("/programs?every=1").text
    assert post(client, "/programs/decide", what="reject").status_code == 422


def test_a_source_that_does_not_run_is_not_taken_and_the_reason_is_one_line(
    client: TestClient, warehouse: Warehouse
) -> None:
    answer = post(
        client, "/programs", kind_of_program="python", name="bad", source="import os\ndef label(text): return None"
    )
    assert answer.status_code == 422
    assert "may not be imported" in words(answer.text)
    assert post(client, "/programs", kind_of_program="trusted", name="x", source="").status_code == 422
    assert post(client, "/programs", rules_form(rule(value="x"), name=" ")).status_code == 422
    assert warehouse.scalar("SELECT count(*) FROM programs") == 2


def test_rules_as_rows_are_the_rules_again(client: TestClient, warehouse: Warehouse) -> None:
    rows = [
        rule(value="win", weight="2.5", beside="prize\nregex: site [0-9]|a,b", unless="word: contains: x"),
        rule("contains", " a ", "ham"), rule("starts_with", "Win"), rule("regex", "a|b"),
    ]  # fmt: skip
    answer = post(client, "/programs", rules_form(*rows, name="many"))
    assert answer.status_code == 200
    from factory.programs import view
    from factory.studio.desk import Desk

    shown = view.show_program(warehouse, 3)
    again = _rows_of(Desk(warehouse, Path("x")), shown)
    assert again == rows
    assert "there already" not in rules_source(again)
    assert "0 against the stored version" not in words(client.get("/programs/3").text)  # it has not voted yet
    assert post(client, "/programs/3/edit", rules_form(*again)).status_code == 422  # the very source


def test_a_phrase_of_a_text_becomes_a_rule_in_two_steps(client: TestClient, warehouse: Warehouse) -> None:
    page = client.get("/programs/new", params={"value": "love it", "label": "ham"}).text
    assert 'value="rule-love-it"' in page
    assert "votes 20 of 60 texts" in words(page)
    assert (
        "Program 3 is accepted"
        in post(client, "/programs", rules_form(rule(value="love it", label="ham"), name="rule-love-it")).text
    )
    more = client.get("/programs/1", params={"value": "prize", "label": "spam"}).text
    assert 'value="win"' in more
    assert 'value="prize"' in more


# Texts ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("query", "total"),
    [
        ("", 60), ("show=uncovered", 10), ("show=conflict", 10), ("show=tied", 2), ("show=doubtful", 50), ("show=open", 60),
        ("show=answered", 0), ("label=spam", 30), ("program=2", 30), ("find=PRIZE", 20), ("find=prize&program=2", 0),
        ("split=dev", 1), ("split=test", 1), ("split=synthetic", 0), ("show=differs", 0), ("page=2", 60),
    ],
)  # fmt: skip
def test_filters(unchanged: TestClient, query: str, total: int) -> None:
    client = unchanged
    page = client.get(f"/texts?{query}").text
    assert f"<b>{total}</b> texts" in page
    part = client.get(f"/texts?{query}", headers={"hx-request": "true"}).text
    assert "<html" not in part
    assert numbers(part) == numbers(page)
    assert len(numbers(page)) == (10 if "page=2" in query else min(total, 50))


def test_an_answer_is_a_vote_with_a_name_and_is_undone(client: TestClient, warehouse: Warehouse) -> None:
    def votes() -> list[Any]:
        return warehouse.query(
            "SELECT text_no, vote FROM votes JOIN programs USING (program_no) WHERE kind = 'trusted' ORDER BY 1"
        )

    part = post(client, "/texts/label", text_no=3, label="ham", back="/texts?show=open", part=True)
    assert numbers(part.text) == [3]
    assert 'class="text answered"' in part.text
    assert "Ann: ham" in words(part.text)
    assert "1 answered; of the last 1, 1 say otherwise than the label model" in words(part.text)
    assert 'hx-swap-oob="true"' in part.text
    whole = post(client, "/texts/label", text_no=4, label="spam", back="/texts?show=open")
    assert whole.url.path == "/texts"
    assert "<b>58</b> texts" in whole.text
    post(client, "/texts/label", text_no=3, label="spam")
    assert votes() == [(3, 1), (4, 1)]
    assert "<b>0</b> texts" in client.get("/texts?show=differs").text
    post(client, "/texts/undo")
    assert votes() == [(3, 0), (4, 1)]
    assert "<b>1</b> texts" in client.get("/texts?show=differs").text
    post(client, "/texts/undo")
    post(client, "/texts/undo")
    assert votes() == []
    assert warehouse.scalar("SELECT count(*) FROM anchors") == 0
    assert post(client, "/texts/undo").status_code == 422
    events = warehouse.query(
        "SELECT text_no, annotator, label_nos, before, undone FROM answer_events ORDER BY action_no"
    )
    assert events == [(3, "Ann", [0], None, True), (4, "Ann", [1], None, True), (3, "Ann", [1], [0], True)]


def test_what_cannot_be_an_answer_is_refused(client: TestClient, warehouse: Warehouse) -> None:
    for fields in (
        {"text_no": 61, "label": "ham"},
        {"text_no": 0, "label": "hamm"},
        {"text_no": 0},
        {"text_no": "x", "label": "ham"},
    ):
        assert post(client, "/texts/label", fields).status_code == 422
    assert post(client, "/texts/label", {"text_no": "0", "label": ["ham", "spam"]}).status_code == 422
    assert warehouse.scalar("SELECT count(*) FROM votes JOIN programs USING (program_no) WHERE kind = 'trusted'") == 0


def test_a_list_is_labelled_at_once_only_with_its_count_and_undone_at_once(
    client: TestClient, warehouse: Warehouse
) -> None:
    fields = {"split": "train", "show": "uncovered", "only_label": "", "program": "", "find": "", "label": "ham"}
    assert "Label all 10 of them" in client.get("/texts?show=uncovered").text
    assert "Label all" not in client.get("/texts").text
    assert post(client, "/texts/all", {**fields, "count": "9"}).status_code == 422
    assert "10 texts were labelled: ham" in post(client, "/texts/all", {**fields, "count": "10"}).text
    assert warehouse.scalar("SELECT count(*) FROM anchors WHERE source = 'person'") == 10
    assert "10 texts: your last answer was taken back" in post(client, "/texts/undo").text
    assert warehouse.scalar("SELECT count(*) FROM anchors") == 0


def test_a_form_goes_back_to_our_own_pages_alone(client: TestClient) -> None:
    for back in ("https://evil.example/", "//evil.example", "/\\evil.example", "/texts?x=\r\nset-cookie: a=b"):
        answer = client.post(
            "/texts/label", data={"text_no": 1, "label": "ham", "back": back}, headers={"origin": "http://127.0.0.1"},
            follow_redirects=False,
        )  # fmt: skip
        assert answer.headers["location"] == "/texts"


def test_one_text_says_who_voted_on_which_words_with_what_weight(client: TestClient) -> None:
    post(client, "/texts/label", text_no=40, label="ham")
    html = client.get("/texts/40").text
    page = words(html)
    assert '<mark title="win">win</mark> this <mark title="great">great</mark> song 0' in html
    assert "win spam win 54.6" in page  # exp(0 - -4)
    assert "great ham great 7.39" in page
    assert "label model snorkel (chosen) spam 80.0% ham 20.0% tie" in page
    assert "train.csv:40 in train" in page
    assert "1 answer on record" in page
    assert 'action="/texts/label"' in html
    assert 'action="/texts/label"' not in client.get("/texts/61").text  # people label training texts
    assert "gold of dev spam" in words(client.get("/texts/60").text)


# The run --------------------------------------------------------------------------------------------------------------------
def test_the_report_leads_to_the_texts_of_a_cell(tmp_path: Path) -> None:
    warehouse = make(tmp_path)
    client = client_of(warehouse)
    assert "student 0.500 0.300–0.700 0.400 100.0%" in words(client.get("/report").text)
    assert "1 × ham taken for spam" in words(client.get("/report").text)
    assert "a great day" in client.get("/report?gold=ham&said=spam").text
    assert client.get("/report/page").status_code == 422
    assert warehouse.folder is not None
    (warehouse.folder / "report.html").write_text("<style>b{}</style><b>whole</b>")
    page = client.get("/report/page")
    assert page.text.endswith("<b>whole</b>")
    assert "script-src" not in page.headers["content-security-policy"]
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_what_was_read_is_kept_until_something_is_written(tmp_path: Path) -> None:
    warehouse = make(tmp_path)
    client = client_of(warehouse)
    form = rules_form(rule(value="this", label="ham"))
    for _ in range(2):
        assert "/programs/1" in client.get("/programs").text
        assert "conflicts 10" in words(post(client, "/programs/try", form, part=True).text)
    manage.reject_program(warehouse, 1)
    assert "/programs/1" not in client.get("/programs").text
    assert "conflicts 0" in words(post(client, "/programs/try", form, part=True).text)


def test_card_and_run_say_what_is_stored(client: TestClient, warehouse: Warehouse) -> None:
    assert "ham about the song 20 spam advertises something 30" in words(client.get("/card").text)
    with warehouse.lease() as db:
        db.execute("INSERT INTO runs VALUES (1, 'small', '{}', now()::TIMESTAMP, NULL, 'running')")
    for headers in ({}, {"hx-request": "true"}):
        assert "was stopped; run it again to go on" in client.get("/run", headers=headers).text


def test_texts_are_tried_on_the_exported_model(client: TestClient, warehouse: Warehouse, linear: Path) -> None:
    assert post(client, "/try", texts="the match").status_code == 422
    with warehouse.lease() as db:
        db.execute("INSERT INTO exports VALUES (1, 'k', NULL, 'linear', ?, '{}', now()::TIMESTAMP)", [str(linear)])
    page = words(post(client, "/try", texts="the match was better than last week\nthe bank failed again").text)
    assert "the match was better than last week sport" in page
    assert "the bank failed again money" in page
    assert "It rests on bank" in page or "It rests on failed" in page
    assert "curl" in page
    assert post(client, "/try", texts=" \n").status_code == 422


def test_a_vote_of_a_program_that_was_rejected_since_and_what_it_counted_stay_on_the_text(
    client: TestClient, warehouse: Warehouse
) -> None:
    post(client, "/programs/decide", program="1", what="reject", reason="too broad")
    page = words(client.get("/texts/40").text)
    assert "win rejected since: it counts until the next run spam win 54.6" in page
    assert "great ham great 7.39" in page
    undone = client.get("/programs").text
    assert 'action="/programs/decide"' in undone
    assert "Undo" not in undone  # it was told once, on the page after the rejection


def test_what_was_decided_is_taken_back_by_the_form_beside_it(client: TestClient, warehouse: Warehouse) -> None:
    page = post(client, "/programs/decide", program="1", what="reject", reason="too broad").text
    fields = dict(
        re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.split('class="done"')[1].split("</form>")[0])
    )
    assert fields["what"] == "approve"
    post(client, "/programs/decide", fields)
    assert warehouse.scalar("SELECT state FROM programs WHERE program_no = 1") == "accepted"


def test_an_answer_of_a_person_is_no_vote_of_a_program(client: TestClient) -> None:
    post(client, "/texts/label", text_no=55, label="ham")
    page = words(client.get("/texts/55").text)
    assert "No program votes on it" in page
    assert "Ann ham" in page
    assert 55 in numbers(client.get("/texts?show=uncovered").text)


def test_a_python_program_shows_what_it_says_of_itself_and_the_words_its_vote_rests_on(
    client: TestClient, warehouse: Warehouse
) -> None:
    source = 'def label(text):\n    """Looks for silence."""\n    return "ham" if "nothing" in text and "say" in text else None\n'
    manage.add_program(warehouse, source, name="silence", sandbox="process")
    stage.vote(warehouse, sandbox="process")
    assert "Looks for silence." in words(client.get("/texts/55").text)
    part = client.get("/texts/55?words=1", headers={"hx-request": "true"}).text
    assert "<mark>nothing</mark> <mark>say</mark>" in part
    assert 'hx-swap-oob="true"' in part


def test_a_draft_says_what_it_gains_loses_and_changes_in_the_label_model(client: TestClient) -> None:
    form = rules_form(rule(value="prize"), name="win")
    page = words(post(client, "/programs/1/try", form, part=True).text)
    assert "spam −10" in page  # `win this great song` is lost
    assert "label model 10 answers change" in page  # they had both votes, and `win` weighed more


def test_texts_are_found_by_meaning_and_near_to_one_another(client: TestClient, warehouse: Warehouse) -> None:
    from factory.encoders.encoder import load_encoder
    from factory.encoders.vectors import vectors_of

    assert client.get("/texts?like=prize").status_code == 422
    assert "It has no vector" in client.get("/texts/0/near").text
    vectors_of(warehouse, load_encoder("hashing"), range(60))
    assert numbers(client.get("/texts?like=win+a+prize+at+site+7").text)[0] == 7
    near = client.get("/texts/0/near", headers={"hx-request": "true"}).text
    assert re.findall(r'href="/texts/(\d+)"', near)[0] in {str(n) for n in range(1, 20)}


def test_words_of_programs_cut_a_text_into_pieces() -> None:
    assert pieces("Win a  big prize", [("big prize", "b"), ("win", "a"), ("a", "c"), ("win", "d"), ("gone", "e")]) == [
        ("Win", "a, d"), (" ", None), ("a", "c"), ("  ", None), ("big prize", "b"), ("", None),
    ]  # fmt: skip
    assert pieces("text", []) == [("text", None)]
