"""`hybridgen report` in a real browser: it opens from a file, draws, plays, and runs nothing that a run wrote."""

import json
import re

import pytest
from chromium import chromium

from hybridgen.cli import main

from .made_runs import HOSTILE, TEXT, made_run

#: A shared machine may be slow; nothing here waits this long where it is not.
PATIENCE = 120_000


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """The page of two runs, one of whose names is hostile as far as file names can be."""
    folder = tmp_path_factory.mktemp("report")
    made_run(folder / "runs" / "first" / "0")
    made_run(folder / "runs" / "<img src=x onerror=hurt=3>" / "4", seed=1, state="failed", error=HOSTILE)
    (folder / "text.txt").write_text(TEXT * 4)
    out = folder / "report.html"
    runs = [str(folder / "runs" / "first"), str(folder / "runs" / "<img src=x onerror=hurt=3>" / "4")]
    assert main(["report", *runs, "--out", str(out), "--text", str(folder / "text.txt")]) == 0
    assert not list(folder.glob("*.partial"))
    return out


def test_the_file_stands_alone_and_its_data_end_no_element(page_file):
    html = page_file.read_text(encoding="utf-8")
    assert "<img src=x" not in html
    assert not re.search(r'(?:src|href)="(?!data:)', html.partition('<script type="application/json"')[0])
    data = html.partition('id="data">')[2].partition("</script>")[0]
    assert "<" not in data
    assert len(json.loads(data)["runs"]) == 2


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(browser, page_file):
    """The page, opened; what its console and its network said is in ``page.said``."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    opened.said = []
    opened.on("console", lambda message: opened.said.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: opened.said.append(f"error: {error}"))
    opened.on("request", lambda each: each.url.startswith(("data:", "file:")) or opened.said.append(each.url))
    opened.goto(page_file.as_uri())
    opened.wait_for_selector("#charts .plot path.js-line")
    yield opened
    context.close()


def test_it_opens_and_draws_without_a_word_in_the_console(page):
    assert page.locator("#charts .plot .main-svg").count() > 0
    loss = page.locator('.plot[data-family="loss"]')
    drawn = loss.evaluate("plot => plot.data.map(trace => [trace.meta, trace.x.length, trace.visible])")
    assert {(0, 30, True), (0, 3, True), (1, 30, True), (1, 3, True)} == set(map(tuple, drawn))
    assert page.locator('.plot[data-family="tokens_seen"]').count() == 0
    assert page.said == []


def test_axes_and_scale_change(page):
    loss = page.locator('.plot[data-family="loss"]')
    last = "plot => plot.data.find(trace => trace.meta === 0 && trace.x.length === 30).x[29]"
    ends = {}
    for axis in ("seen", "epoch", "step"):
        page.click(f'[data-axis="{axis}"]')
        ends[axis] = loss.evaluate(last)
    assert ends == {"step": 290, "seen": 290 * 64, "epoch": pytest.approx(291 / 100, abs=0.2)}
    page.click('[data-scale="log"]')
    assert loss.evaluate("plot => plot.layout.yaxis.type") == "log"
    page.click('[data-scale="linear"]')


def test_a_run_is_switched_off_and_on(page):
    loss = page.locator('.plot[data-family="loss"]')
    cards = page.locator('[data-run="1"]')
    assert cards.count() >= 5
    page.click('[data-toggle="1"]')
    assert not any(card.is_visible() for card in cards.all())
    assert loss.evaluate("plot => plot.data.every(trace => trace.visible === (trace.meta === 0))")
    assert page.locator("#overview [data-run='0']").is_visible()
    page.click('[data-toggle="1"]')
    assert loss.evaluate("plot => plot.data.every(trace => trace.visible)")


def test_sounds_are_played(page):
    sounds = page.locator('[data-run="0"] audio')
    assert sounds.count() == 2  # a wav, and a MIDI file that was made into one
    for sound in sounds.all():
        length = sound.evaluate(
            """audio => new Promise((done, failed) => {
                audio.addEventListener("timeupdate", () => audio.currentTime > 0 && done(audio.duration));
                audio.addEventListener("error", () => failed(audio.error.message));
                audio.muted = true; audio.play().catch(failed);
            })"""
        )
        assert 0.4 < length < 17


def test_stages_and_units_move(page):
    gallery = page.locator('[data-run="0"] [data-gallery]').first
    assert gallery.locator("output").inner_text() == "epoch 2"
    gallery.locator(".stages input").fill("0")
    assert gallery.locator("output").inner_text() == "epoch 0"
    assert gallery.locator(".stage:visible pre").inner_text().startswith("epoch 0 writes")
    units = page.locator('[data-units="0"]')
    assert units.locator(".reading").inner_text().startswith('The "cat" sat')
    colours = "box => [...box.querySelectorAll('.reading span')].map(span => span.style.background).join()"
    before = units.evaluate(colours)
    other = (int(units.locator("input").input_value()) + 1) % 8
    units.locator("input").fill(str(other))
    assert units.evaluate(colours) != before
    assert units.locator("output").inner_text().startswith(f"{other},")


def test_hostile_text_is_text(page):
    assert page.evaluate("window.hurt") is None
    assert page.locator("img[src='x']").count() == 0
    assert HOSTILE.strip() in page.locator('[data-run="0"] .stage pre').first.evaluate("pre => pre.textContent")
    assert HOSTILE in page.locator('[data-run="1"] .note').first.evaluate("note => note.textContent")
    assert "<img src=x onerror=hurt=3>/4" in page.locator('[data-toggle="1"]').inner_text()
    # The policy holds even where escaping would be forgotten.
    page.evaluate("""() => { const box = document.createElement("div"); document.body.append(box);
        box.innerHTML = "<img src=data:, onerror='window.hurt=4'>"; }""")
    page.wait_for_timeout(200)
    assert page.evaluate("window.hurt") is None
    assert all("Content Security Policy" in line for line in page.said)
    page.said.clear()


def test_dark_light_and_narrow(page):
    def ground():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = ground()
    page.emulate_media(color_scheme="dark")
    dark = ground()
    assert dark != light
    page.click("#theme")
    assert ground() == light
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 380, "height": 800})
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")  # charts follow a moment later
    assert page.said == []
