"""A real browser, without a window."""

import contextlib
import os
import shutil

import pytest


@contextlib.contextmanager
def chromium():
    """Chromium, started; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))]
    path = next(filter(None, found), None)
    with playwright.sync_playwright() as started:
        if path is None and not os.path.exists(started.chromium.executable_path):
            pytest.skip("there is no Chromium: install one, or name it by the variable CHROMIUM")
        with_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        arguments = [*with_root, "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
        browser = started.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()
