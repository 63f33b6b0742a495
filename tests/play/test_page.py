"""`hybridgen play` as a person meets it: the command in a process of its own, its page in a real browser."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from chromium import chromium

pytest.importorskip("gradio", reason="the page needs the extra `play`")

pytestmark = pytest.mark.slow

#: A shared machine may be slow; nothing here waits this long where it is not.
PATIENCE = 120_000
MODELS = ("language", "sentences", "sounds", "series", "rolls", "sketches")
#: The command, telling of every connection that leaves the machine, and of every name that it asks for.
WATCHED = """
import sys
def look(event, arguments):
    if event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        outside = not str(arguments[1][0]).startswith(("127.", "::1"))
    else:
        outside = event == "socket.getaddrinfo" and arguments[0] not in ("127.0.0.1", "localhost", None)
    if outside:
        print("OUTSIDE", event, arguments, file=sys.stderr, flush=True)
sys.addaudithook(look)
from hybridgen.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Server:
    def __init__(self, checkpoints, folder):
        self.folder = folder
        self.log = folder / "log.txt"
        environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", WATCHED, "play", "--port", "0", "--no-browser", "--ckpt", *checkpoints]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=folder
            )
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + self.log.read_text()
        self.address = found[0]

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(timeout=PATIENCE / 1000)


@pytest.fixture(scope="module")
def server(checkpoint, tmp_path_factory):
    started = Server([checkpoint(name) for name in MODELS], tmp_path_factory.mktemp("server"))
    yield started
    if started.process.poll() is None:
        started.process.kill()
        started.process.wait()


@pytest.fixture(scope="module")
def page(server):
    """The page, opened; what its console said and what it asked of others is in ``page.said``."""
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 1000})
        context.set_default_timeout(PATIENCE)
        opened = context.new_page()
        opened.said = []
        opened.on("console", lambda m: m.type != "error" or opened.said.append(f"{m.type}: {m.text}"))
        opened.on("pageerror", lambda error: opened.said.append(f"error: {error}"))
        own = (server.address, "data:", "blob:")
        opened.on("request", lambda each: each.url.startswith(own) or opened.said.append(each.url))
        opened.goto(server.address)
        opened.wait_for_selector("#model-0 textarea")
        yield opened


def sheet(page, name):
    """The sheet of a model, in front."""
    page.get_by_role("tab", name=f"{name}/0", exact=True).click()
    found = page.locator(f"#model-{MODELS.index(name)}")
    found.wait_for(state="visible")
    return found


def press(sheet, name):
    sheet.get_by_role("button", name=name, exact=True).click()


def fill(sheet, label, value):
    field = sheet.get_by_label(label, exact=True)
    field.fill(str(value))
    field.press("Tab")


def complaint(page):
    """The sentence that the page shows, which is put away."""
    toast = page.get_by_test_id("toast-body")
    toast.wait_for()
    said = toast.inner_text()
    toast.get_by_test_id("toast-close").click()
    toast.wait_for(state="detached")
    return said


def until(page, condition, *arguments):
    page.wait_for_function(condition, arg=list(arguments))


def picture_of(page, sheet, before=None):
    """The address of the picture that is shown, another one than before, once it is drawn."""
    image = sheet.locator('[data-testid="detailed-image"], .image-container img').first
    image.wait_for()
    until(
        page,
        "([image, before]) => image.complete && image.naturalWidth > 50 && image.src !== before",
        image.element_handle(),
        before,
    )
    return image.get_attribute("src")


def test_it_stands_alone(page, server):
    assert [tab.inner_text() for tab in page.get_by_role("tab").all()][:6] == [f"{name}/0" for name in MODELS]
    assert "LanguageModel" in page.locator("#model-0").inner_text()
    assert page.said == []
    with urllib.request.urlopen(server.address) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "fonts.googleapis" not in answer.read().decode()


def test_a_text_grows_under_the_eyes_and_is_stopped(page):
    language = sheet(page, "language")
    language.get_by_label("prompt").fill("the cat ")
    fill(language, "number input for max_new_tokens", 10000)
    # In the page itself: between two looks from here, a small model may have written everything.
    lengths = page.evaluate(
        """() => new Promise(done => {
            const text = document.querySelector("#model-0 .written textarea"), lengths = [];
            const button = name => [...document.querySelectorAll("#model-0 button")].find(b => b.innerText === name);
            const watching = setInterval(() => {
                const length = text.value.length;
                if (length && length !== lengths.at(-1)) lengths.push(length);
                if (lengths.length === 3) { button("Stop").click(); clearInterval(watching); done(lengths); }
            }, 20);
            button("Write").click();
        })"""
    )
    assert lengths == sorted(lengths)
    text = language.locator(".written textarea")
    before, stopped = None, text.input_value()
    while before != stopped:  # what was on its way to the page when the button was pressed still comes
        page.wait_for_timeout(3000)
        before, stopped = stopped, text.input_value()
    assert stopped.startswith("the cat ")
    assert len(stopped) < 10000
    assert "ended it" not in language.get_by_label("so far").input_value()


def test_seed_and_options_make_the_text(page):
    language = sheet(page, "language")
    text, note = language.locator(".written textarea"), language.get_by_label("so far")

    def written(prompt, **options):
        language.get_by_label("prompt").fill(prompt)
        for name, value in options.items():
            fill(language, name if name == "seed" else f"number input for {name}", value)
        before = text.input_value()
        press(language, "Write")
        changed = "([text, note, before]) => text.value !== before && note.value.includes('ended it')"
        until(page, changed, text.element_handle(), note.element_handle(), before)
        return text.input_value()

    first = written("the cat ", max_new_tokens=40, seed=1)
    assert note.input_value().startswith("40 tokens, ")
    assert len(first) == 48
    sharp = written("the cat ", temperature=0.05)
    assert sharp != first
    assert written("the cat ", temperature=1, seed=2) not in (first, sharp)
    assert written("the cat ", seed=1) == first
    language.get_by_label("prompt").fill("☃")
    press(language, "Write")
    assert "☃" in complaint(page)


def test_a_slider_moves_between_two_sentences(page):
    sentences = sheet(page, "sentences")
    sentences.get_by_label("first sentence").fill("the cat sat")
    sentences.get_by_label("second sentence").fill("a xyzzy ran")
    here, note = sentences.locator(".written textarea"), sentences.get_by_label("of it")
    share = sentences.get_by_label("range slider for way through the latent")
    share.fill("0.25")
    until(page, "([note]) => note.value.includes(' nats')", note.element_handle())
    assert "does not know 1 of the 3 words of the second sentence" in note.input_value()
    first = note.input_value(), here.input_value()
    share.fill("1")
    until(page, "([note, before]) => note.value && note.value !== before", note.element_handle(), first[0])
    press(sentences, "Show the whole way")
    # The table draws the rows that are in sight, and measures by hidden ones.
    for place in ("0.000", "0.125"):
        sentences.locator(":visible", has_text=re.compile(f"^{place}$")).last.wait_for()
    sentences.get_by_label("first sentence").fill("")
    press(sentences, "Show the whole way")
    assert "the first sentence is empty" in complaint(page)
    page.said.clear()


def test_sentences_come_from_the_prior(page):
    sentences = sheet(page, "sentences")
    sentences.get_by_role("tab", name="From the prior").click()
    press(sentences, "Write")
    drawn = sentences.locator(".drawn textarea")
    until(page, "([area]) => area.value.length > 0", drawn.element_handle())
    assert len(drawn.input_value().split("\n")) == 5
    assert page.said == []


def test_a_label_is_picked_and_heard(page, server):
    sounds = sheet(page, "sounds")
    sounds.get_by_label("label").click()
    page.get_by_role("option", name="struck").click()
    press(sounds, "Generate")
    picture_of(page, sounds)
    until(page, "() => document.querySelectorAll('#model-2 a[href*=\"_struck.wav\"]').length >= 2")
    sound = sounds.locator("a[href*='0000_struck.wav']").first.get_attribute("href")
    length = page.evaluate(
        """source => new Promise((done, failed) => {
            const audio = new Audio(source);
            audio.addEventListener("timeupdate", () => audio.currentTime > 0 && done(audio.duration));
            audio.addEventListener("error", () => failed(audio.error.message));
            audio.muted = true; audio.play().catch(failed);
        })""",
        sound,
    )
    assert 0.02 < length < 5
    assert sounds.get_by_test_id("waveform-sound 1").or_(sounds.locator("[data-testid^=waveform]")).count() >= 1
    assert page.said == []


def test_a_point_of_the_latent_moves_a_series(page):
    series = sheet(page, "series")
    switch = series.get_by_label("choose the latent")
    assert not switch.is_checked()
    press(series, "Generate")
    first = picture_of(page, series)
    assert series.locator("a[href$='series.csv']").count() >= 1
    series.get_by_label(re.compile("range slider for latent")).first.fill("3")
    second = picture_of(page, series, first)
    until(page, "([box]) => box.checked", switch.element_handle())
    press(series, "Another seed")
    picture_of(page, series, second)
    assert series.get_by_label("seed", exact=True).input_value() == "1"
    series.get_by_label(re.compile("number input for latent")).first.fill("9")
    assert re.search(r"latent \d+ is 9: give a number from -3 to 3", complaint(page))
    page.said.clear()
    fill(series, "length", -3)
    press(series, "Generate")
    assert "length is -3: give a whole number" in complaint(page)
    page.said.clear()


@pytest.mark.parametrize(("name", "kind"), [("rolls", ".mid"), ("sketches", ".svg")])
def test_things_are_seen_and_kept(page, name, kind):
    found = sheet(page, name)
    press(found, "Generate")
    picture_of(page, found)
    link = found.locator(f"a[href$='{kind}']").first
    with urllib.request.urlopen(link.evaluate("link => link.href")) as answer:
        assert answer.read(4) in (b"MThd", b"<svg")
    assert page.said == []


def test_it_serves_no_other_file(server):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{server.address}/gradio_api/file={Path(__file__).resolve()}")
    assert refused.value.code in (403, 404)


@pytest.mark.parametrize("method", ["POST", "OPTIONS"])
@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:9999", None])
def test_it_takes_no_file_from_anybody(server, method, origin):
    before = sorted(server.folder.rglob("*"))
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Access-Control-Request-Method": "POST"}
    request = urllib.request.Request(f"{server.address}/gradio_api/upload", form, headers, method=method)
    if origin is not None:
        request.add_header("Origin", origin)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 403
    assert not [name for name in refused.value.headers if name.lower().startswith("access-control")]
    assert sorted(server.folder.rglob("*")) == before


def test_it_ends_by_a_signal_called_nobody_and_leaves_nothing(page, server):
    assert list(server.folder.glob("hybridgen-play-*"))
    assert server.end(signal.SIGTERM) == 143
    assert not list(server.folder.glob("hybridgen-play-*"))
    assert server.log.read_text() == ""


def test_a_single_model_needs_no_tab_and_control_c_ends_it(checkpoint, tmp_path):
    started = Server([checkpoint("language")], tmp_path)
    try:
        with urllib.request.urlopen(started.address) as answer:
            assert "language/0" in answer.read().decode()
        assert started.end(signal.SIGINT) == 130
        assert started.log.read_text() == "hybridgen: stopped\n"
    finally:
        started.process.kill()
