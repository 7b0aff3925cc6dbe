"""Pages of MLflow's UI in a real browser, and pictures of them for the documentation.

    python tests/support/mlflow_pages.py http://127.0.0.1:5000 --out docs/pages

takes the pictures of the newest run of an experiment and of its model version.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from mlflow_server import Account
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

_PATIENCE_S = 60
_ASKS_FOR_ACCOUNT = "/ajax-api/2.0/mlflow/experiments/search?max_results=1"
_CLOSE_ASSISTANT = "[data-component-id='mlflow.assistant.chat_panel.close']"
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1800,1000",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@contextmanager
def chromium(driver: str, program: str, profile: Path) -> Iterator[webdriver.Chrome]:
    """A chromium that reaches this machine and nothing else; `get_log("browser")` works.

    Args:
        driver: path of chromedriver.
        program: path of chromium.
        profile: folder of its profile.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield started
    finally:
        started.quit()


class MlflowPages:
    """Pages of one server.

    Args:
        browser: selenium's driver.
        uri: address of the server.
        account: where the server asks for one.
    """

    def __init__(self, browser: Any, uri: str, account: Account | None = None) -> None:
        self.browser, self.uri = browser, uri
        if account is not None:
            # From then on chromium sends them; in the address of a page they break its requests.
            password = quote(account.password, safe="")
            self.browser.get(uri.replace("//", f"//{account.user}:{password}@") + _ASKS_FOR_ACCOUNT)

    def open_runs(self, experiment_id: str, *columns: str) -> None:
        """Open the table of runs, with further columns such as Description."""
        self._open(f"/#/experiments/{experiment_id}/runs")
        self.wait_for("Run Name")
        if not columns:
            return
        self._click("//button[normalize-space()='Columns']")
        for name in columns:
            search = self._find("//input[@placeholder='Search columns']")
            search.clear()
            search.send_keys(name)
            # The search marks what it finds.
            self._click(f"//strong[normalize-space()='{name}']")
        search.send_keys(Keys.ESCAPE)

    def open_run(self, experiment_id: str, run_id: str, tab: str = "") -> None:
        """Open a run, and one of its tabs: `model-metrics`, `system-metrics`, `artifacts`."""
        self._open(f"/#/experiments/{experiment_id}/runs/{run_id}/{tab}")

    def open_version(self, model: str, version: str) -> None:
        """Open the page of a version of a registered model."""
        self._open(f"/#/models/{model}/versions/{version}")

    def wait_for(self, *texts: str) -> None:
        """Wait until the page shows all texts; fail with the text of the page otherwise."""

        def missing() -> list[str]:
            shown = self.text()
            return [text for text in texts if text not in shown]

        _wait(lambda: not missing(), lambda: f"{missing()} not in the page:\n{self.text()}")

    def text(self) -> str:
        """Return the text of the page."""
        try:
            return str(self.browser.find_element(By.TAG_NAME, "body").text)
        except WebDriverException:  # replaced while it is read
            return ""

    def picture(self, file: Path) -> None:
        """Write a PNG of the window without MLflow's assistant, when its figures are drawn."""
        for button in self.browser.find_elements(By.CSS_SELECTOR, _CLOSE_ASSISTANT):
            button.click()
        time.sleep(3)
        file.parent.mkdir(parents=True, exist_ok=True)
        assert self.browser.save_screenshot(str(file))

    def _open(self, path: str) -> None:
        self.browser.get("about:blank")  # the pages differ after the # only
        self.browser.get(f"{self.uri}{path}?workflowType=machine_learning")

    def _find(self, xpath: str) -> Any:
        found: list[Any] = []

        def look() -> bool:
            found[:] = [e for e in self.browser.find_elements(By.XPATH, xpath) if e.is_displayed()]
            return bool(found)

        _wait(look, lambda: f"no element {xpath} in the page:\n{self.text()}")
        return found[0]

    def _click(self, xpath: str) -> None:
        def click() -> bool:
            try:
                self._find(xpath).click()
            except WebDriverException:  # covered, or replaced while it is clicked
                return False
            return True

        _wait(click, lambda: f"{xpath} cannot be clicked")


def _wait(condition: Callable[[], bool], explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.2)


def take_pictures(pages: MlflowPages, out: Path, *, experiment: str) -> None:
    """Write `runs.png`, `description.png`, `system_metrics.png` and `model_version.png`.

    Args:
        pages: of a server that has a run of `nas run` that ended well.
        out: folder of the pictures.
        experiment: name of the experiment.
    """
    import mlflow

    client = mlflow.MlflowClient(pages.uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None, f"the server has no experiment {experiment}"
    number = found.experiment_id
    whole = next(
        run
        for run in client.search_runs([number], "attributes.status = 'FINISHED'")
        if "mlflow.parentRunId" not in run.data.tags
    )
    pages.open_runs(number, "Description")
    pages.picture(out / "runs.png")
    pages.open_run(number, whole.info.run_id)
    pages.wait_for("Description")
    pages.picture(out / "description.png")
    pages.open_run(number, whole.info.run_id, "system-metrics")
    pages.wait_for("cpu_utilization_percentage")
    pages.picture(out / "system_metrics.png")
    (version,) = client.search_model_versions(f"run_id = '{whole.info.run_id}'")
    pages.open_version(version.name, version.version)
    pages.wait_for("How to load")
    pages.picture(out / "model_version.png")


def main() -> None:
    """Take the pictures of a running server."""
    parser = argparse.ArgumentParser(description=take_pictures.__doc__)
    parser.add_argument("uri")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--experiment", default="nas")
    parser.add_argument("--driver", default="/usr/bin/chromedriver")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    given = parser.parse_args()
    with (
        TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        chromium(given.driver, given.chromium, Path(profile)) as browser,
    ):
        take_pictures(MlflowPages(browser, given.uri), given.out, experiment=given.experiment)


if __name__ == "__main__":
    main()
