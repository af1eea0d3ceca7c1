"""The page's modules without a page around them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import connected
from tests.browser.fake_server import FakeServer

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def modules(chromium: Browser) -> Iterator[Page]:
    """A page to import modules into; nothing of it is used."""
    server = FakeServer()
    server.start()
    page = chromium.new_page()
    yield connected(page, server.url)
    page.close()
    server.stop()


GAP_AND_OVERLAP = """async () => {
    const { Run } = await import("/run.js");
    const run = new Run("r", 1);
    const seen = [
        run.applyDelta(0, "a🎉"), run.applyDelta(2, "b"), run.applyDelta(1, "🎉bc"),
        run.applyDelta(0, "a"), run.applyDelta(7, "g"), run.hasGap,
    ];
    run.catchUp("a🎉bcdef");
    return [...seen, run.text, run.hasGap];
}"""

SHORTER_READ = """async () => {
    const { Run } = await import("/run.js");
    const run = new Run("r", 1);
    run.applyDelta(0, "longer");
    run.catchUp("long");
    return run.text;
}"""

MERGED = """async () => {
    const { Thread } = await import("/thread.js");
    const message = (id) => ({ id, role: "user", text: id });
    const thread = new Thread("c");
    thread.prepend([message("1"), message("2"), message("3")], "1");
    thread.add(message("deleted"));
    const mark = thread.mark();
    thread.add(message("5"));
    thread.merge([message("2"), message("3"), message("4")], "2", mark);
    return [thread.messages.map((held) => held.id).join(" "), thread.before];
}"""

NOT_CONTIGUOUS = """async () => {
    const { Thread } = await import("/thread.js");
    const message = (id) => ({ id, role: "user", text: id });
    const thread = new Thread("c");
    thread.prepend([message("1")], null);
    thread.merge([message("8"), message("9")], "8", thread.mark());
    return [thread.messages.map((held) => held.id).join(" "), thread.before];
}"""

SIBLINGS = """async () => {
    const { Thread } = await import("/thread.js");
    const said = (id, parent, more = {}) => ({ id, role: "user", parent, text: id, ...more });
    const reply = (id, parent, question) => (
        { ...said(id, parent, { role: "assistant" }), reply_to: question }
    );
    const thread = new Thread("c");
    const line = () => thread.messages.map((held) => held.id).join(" ");
    for (const message of [said("1", null), said("2", "1"), reply("a", "2", "1")]) {
        thread.add(message);
    }
    const lines = [line()];
    thread.add(reply("b", "2", "1"));
    lines.push(line());
    thread.add(said("3", "b"));
    thread.add({ ...said("4", "3", { role: "assistant" }), stored: false });
    thread.add(said("5", "3"));
    lines.push(line());
    thread.add(said("3x", "b"));
    lines.push(line(), thread.find("3x").branches.join(" "), thread.find("b").branches.join(" "));
    thread.add(said("1x", null));
    return [...lines, line()];
}"""

PROVEN = """async () => {
    const { isExact } = await import("/digest.js");
    const sha256 = "3b27e0a5a2f4d8d0ef0e0ff4a0bd3a3e1b1b4bf41c4a8b0f8b5a7c0e2b0c1f3a";
    const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    return Promise.all([
        isExact("abc", { chars: 3, sha256: abc }), isExact("abd", { chars: 3, sha256: abc }),
        isExact("abc", { chars: 3, sha256 }), isExact("🎉", { chars: 1 }),
        isExact("🎉", { chars: 2 }), isExact("anything", {}),
    ]);
}"""

UNPROVEN = """async () => {
    const { isExact } = await import("/digest.js");
    const { subtle } = crypto;
    Object.defineProperty(crypto, "subtle", { value: undefined, configurable: true });
    const answers = await Promise.all([
        isExact("abc", { chars: 3, sha256: "not to be had" }), isExact("abc", { chars: 4 }),
    ]);
    Object.defineProperty(crypto, "subtle", { value: subtle, configurable: true });
    return answers;
}"""

MANY_RUNS = """async () => {
    const { LiveState } = await import("/live_state.js");
    const live = new LiveState();
    live.welcome({ resumed: false, epoch: "e", seq: 7 });
    for (let n = 0; n < 70; n += 1) {
        live.take({ type: "run.delta", run: `r${n}`, offset: 0, text: "🎉" });
    }
    const { resume, runs } = live.hello();
    return [resume, runs.length, runs[0], live.attachAll().length];
}"""

SETTLED = """async () => {
    const { Runs } = await import("/runs.js");
    const runs = new Runs();
    runs.begin("ended unseen", { conversation: "c" });
    runs.begin("elsewhere", { conversation: "d" });
    runs.end("over");
    const mark = runs.mark();
    runs.begin("begun since", { conversation: "c" });
    const fresh = runs.settle("c", [
        { run: "over", message: "m", text: "x" }, { run: "new", message: "n", text: "abc" },
    ], mark);
    const ids = (some) => some.map((run) => run.id);
    return [ids(runs.of("c")), ids(fresh), runs.get("new").text, runs.of("d").length];
}"""

PAUSES = """async () => {
    const { pauseMs } = await import("/connection.js");
    return [pauseMs(0, 0), pauseMs(0, 1), pauseMs(3, 0), pauseMs(3, 1), pauseMs(50, 1)];
}"""

RETRIES = """async () => {
    const { Retries } = await import("/retries.js");
    const pauses = [];
    const { setTimeout } = window;
    window.setTimeout = (_, pauseMs) => pauses.push(pauseMs);
    const retries = new Retries();
    const plan = (error = { retryable: true }) => retries.plan(() => {}, error);
    for (let n = 0; n < 6; n += 1) plan();
    plan({ retryable: false });
    retries.end();
    plan();
    plan({ retryable: true, retryAfterMs: 5_000 });
    window.setTimeout = setTimeout;
    return pauses;
}"""

ULIDS = """async () => {
    const { newUlid } = await import("/ulid.js");
    const many = Array.from({ length: 500 }, () => newUlid());
    return [newUlid(0), newUlid(1_700_000_000_000), ...many];
}"""

RENDERED = """async (text) => {
    const { renderMarkdown } = await import("/markdown.js");
    const container = document.createElement("div");
    renderMarkdown(container, text);
    return container.innerHTML;
}"""

KEPT_WHILE_GROWING = """async () => {
    const { renderMarkdown } = await import("/markdown.js");
    const container = document.createElement("div");
    renderMarkdown(container, "one\\n\\n```\\nco");
    const first = container.firstElementChild;
    renderMarkdown(container, "one\\n\\n```\\ncode\\n```\\nend");
    return [first === container.firstElementChild, container.children.length];
}"""

LINK = 'rel="noopener noreferrer" target="_blank"'


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        pytest.param(
            GAP_AND_OVERLAP,
            ["applied", "applied", "applied", "duplicate", "gap", True, "a🎉bcdefg", False],
            id="a run drops overlaps and waits behind gaps",
        ),
        pytest.param(SHORTER_READ, "longer", id="a read that is behind does not take text away"),
        pytest.param(MERGED, ["1 2 3 4 5", "1"], id="a page read again replaces its stretch"),
        pytest.param(NOT_CONTIGUOUS, ["8 9", "8"], id="a page that does not join replaces all"),
        pytest.param(
            SETTLED,
            [["begun since", "new"], ["new"], "abc", 1],
            id="a read settles which runs are live",
        ),
        pytest.param(
            SIBLINGS,
            ["1 2 a", "1 2 b", "1 2 b 3 4 5", "1 2 b 3x", "3 3x", "a b", "1x"],
            id="what stands beside a message held takes its place",
        ),
        pytest.param(
            PROVEN, [True, False, False, True, False, True], id="length and digest prove a text"
        ),
        pytest.param(UNPROVEN, [True, False], id="without a digest the length has to do"),
        pytest.param(
            MANY_RUNS,
            [{"epoch": "e", "seq": 7}, 64, {"run": "r0", "offset": 1}, 6],
            id="a hello names 64 replies, the others are asked for later",
        ),
        pytest.param(PAUSES, [300, 300, 1200, 2400, 10_000], id="pauses grow to ten seconds"),
        pytest.param(
            RETRIES,
            [1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 1_000, 5_000],
            id="reads are tried again after pauses that grow, unless that is vain",
        ),
    ],
)
def test_modules(modules: Page, script: str, outcome: object) -> None:
    assert modules.evaluate(script) == outcome


def test_ulids_are_sortable_and_unique(modules: Page) -> None:
    first, second, *many = modules.evaluate(ULIDS)
    assert first.startswith("0" * 10)
    assert second[:10] == "01HF7YAT00"
    assert {len(ulid) for ulid in many} == {26}
    assert len(set(many)) == len(many)


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a\nb\n\nc", "<p>a<br>b</p><p>c</p>"),
        (
            "**b** *i* __b__ _i_ `c`",
            "<p><strong>b</strong> <em>i</em> <strong>b</strong> <em>i</em> <code>c</code></p>",
        ),
        ("***both***", "<p><strong><em>both</em></strong></p>"),
        ("snake_case_name 2*3*4 a * b", "<p>snake_case_name 2<em>3</em>4 a * b</p>"),
        ("**open and `open", "<p>**open and `open</p>"),
        (r"\*no\* `a\*b`", r"<p>*no* <code>a\*b</code></p>"),
        ("# One\n#### Four", "<h3>One</h3><h6>Four</h6>"),
        ("- a\n- b\n  - c\n\nend", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul><p>end</p>"),
        ("3. x\n4. y", '<ol start="3"><li>x</li><li>y</li></ol>'),
        ("1. x\n\n2. y", '<ol start="1"><li>x</li><li>y</li></ol>'),
        ("> q\n> *r*", "<blockquote><p>q<br><em>r</em></p></blockquote>"),
        ("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>"),
        ("<b>&amp;", "<p>&lt;b&gt;&amp;amp;</p>"),
        ("[t](https://a.b/c_(d))", f'<p><a href="https://a.b/c_(d)" {LINK}>t</a></p>'),
        ("See http://a.b/c.", f'<p>See <a href="http://a.b/c" {LINK}>http://a.b/c</a>.</p>'),
        ("[t](javascript:x) [u](/local)", "<p>[t](javascript:x) [u](/local)</p>"),
        ("![i](https://a.b)", f'<p>!<a href="https://a.b" {LINK}>i</a></p>'),
    ],
)
def test_markdown_becomes_elements(modules: Page, text: str, html: str) -> None:
    assert modules.evaluate(RENDERED, text) == html


@pytest.mark.parametrize("text", ["*a " * 4_000, "> " * 6_000, "- " * 6_000 + "x", "[" * 12_000])
def test_no_text_is_too_much_for_markdown(modules: Page, text: str) -> None:
    assert modules.evaluate(RENDERED, text)


def test_code_in_a_list_belongs_to_its_item(modules: Page) -> None:
    html = modules.evaluate(RENDERED, "1. Run\n   ```sh\n   ls\n     -l\n   ```\n2. Look")
    assert html.startswith('<ol start="1"><li>Run<figure class="code">')
    assert "<code>ls\n  -l</code>" in html
    assert html.endswith("</figure></li><li>Look</li></ol>")


def test_finished_blocks_are_kept_while_a_reply_grows(modules: Page) -> None:
    assert modules.evaluate(KEPT_WHILE_GROWING) == [True, 3]
