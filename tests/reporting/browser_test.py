"""The report's page in a real browser, under its own policy."""

import shutil

import keras
import matplotlib
import numpy as np
import pytest

import keras_finegrain

matplotlib.use("Agg")

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
webdriver = pytest.importorskip("selenium.webdriver")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.one_backend,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="there is no chromium"
    ),
]
NAMES = ["Song_Sparrow", "<img src=x onerror=alert(1)>", 'Towhee\'s "own"']
WIDTHS = [420, 1200]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of a model that knows little: 40 errors or so of 60."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(6, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = generator.uniform(0, 255, size=(60, 12, 12, 3))
    path = tmp_path_factory.mktemp("browser") / "page.html"
    return keras_finegrain.report(
        model,
        (images.astype("float32"), labels),
        path,
        NAMES,
        keys=[f"photo_{index:02d}.jpg" for index in range(60)],
        settings={"method": "softmax", "lr": 0.01},
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update"),
        *("--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND"),
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(DRIVER)
    driver = webdriver.Chrome(options, service)
    yield driver
    driver.quit()


def opened(browser, page, width=1200, scheme="light"):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {
            "width": width,
            "height": 800,
            "deviceScaleFactor": 1,
            "mobile": False,
        },
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    browser.get(page.as_uri())
    return browser


def shown_cells(browser, column):
    return browser.execute_script(
        "return [...document.querySelectorAll('#every-error tbody tr')]"
        ".filter(row => !row.hidden)"
        f".map(row => row.cells[{column}].textContent)"
    )


def field(browser, name):
    return browser.execute_script(
        "return [...document.querySelectorAll('#every-error label')].find("
        f"label => label.textContent.startsWith('{name}'))"
        ".querySelector('input, select')"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_and_the_contents_stay_in_sight(browser, page, width):
    opened(browser, page, width)

    wide, inner = browser.execute_script(
        "return [document.documentElement.scrollWidth, innerWidth]"
    )
    browser.execute_script(
        "document.querySelector('#figures').scrollIntoView()"
    )
    top, height = browser.execute_script(
        "const box = document.querySelector('.contents summary')"
        ".getBoundingClientRect(); return [box.top, box.height]"
    )
    is_open = browser.execute_script(
        "return document.querySelector('.contents details').open"
    )

    assert wide <= inner
    assert 0 <= top < 100
    assert height > 0
    assert is_open == (width == 1200)


def test_every_picture_is_shown_and_nothing_is_complained_of(browser, page):
    opened(browser, page)

    broken = browser.execute_async_script(
        "const done = arguments[0]; const images = [...document.images];"
        "Promise.all(images.map(i => { i.loading = 'eager'; return i.decode()"
        ".then(() => 0, () => 1); })).then(all => done("
        "[images.length, all.reduce((a, b) => a + b)]))"
    )

    assert broken[0] > 40
    assert broken[1] == 0
    assert browser.get_log("browser") == []


def test_a_script_from_elsewhere_is_not_run(browser, page, tmp_path):
    copy = tmp_path / "copy.html"
    text = page.read_text("utf-8")
    copy.write_text(
        text.replace(
            "</main>", "<script>document.title = 'no'</script></main>"
        ),
        "utf-8",
    )
    opened(browser, copy)

    assert browser.title != "no"
    assert any(
        "Content Security Policy" in line["message"]
        for line in browser.get_log("browser")
    )


def test_a_click_on_a_heading_sorts_and_says_so(browser, page):
    opened(browser, page)
    heading = browser.execute_script(
        "return [...document.querySelectorAll('#every-error th')].find("
        "th => th.textContent.startsWith('photo'))"
    )
    button = heading.find_element("css selector", "button")

    button.click()
    rising = shown_cells(browser, 6)
    order = heading.get_attribute("aria-sort")
    button.click()
    falling = shown_cells(browser, 6)

    assert rising == sorted(rising)
    assert len(rising) == 25  # The rest by a click.
    assert order == "ascending"
    assert falling == sorted(falling, reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"


def test_numbers_are_sorted_as_numbers(browser, page):
    opened(browser, page)
    buttons = browser.find_elements("css selector", "#every-error th button")
    (sure,) = [each for each in buttons if each.text == "how sure"]

    sure.click()

    found = [float(cell.rstrip(" %")) for cell in shown_cells(browser, 3)]
    assert found == sorted(found)


def test_typing_and_choosing_filter_the_errors(browser, page):
    opened(browser, page)
    all_shown = browser.find_element("css selector", "#every-error output").text

    field(browser, "Search").send_keys("photo_1")
    named = shown_cells(browser, 6)
    field(browser, "Search").clear()
    field(browser, "Search").send_keys("x")
    select = field(browser, "class")
    name = browser.execute_script(
        "const select = arguments[0]; select.selectedIndex = 1;"
        "select.dispatchEvent(new Event('input')); return select.value",
        select,
    )
    field(browser, "Search").clear()
    browser.execute_script(
        "arguments[0].dispatchEvent(new Event('input'))", select
    )
    classes = shown_cells(browser, 1)

    assert named
    assert all(key.startswith("photo_1") for key in named)
    assert name == NAMES[1] or name in ("Song Sparrow", NAMES[2])
    assert set(classes) == {name}
    count = browser.find_element("css selector", "#every-error output").text
    assert count != all_shown


def test_the_rest_of_a_long_table_is_one_click_away(browser, page):
    opened(browser, page)
    more = browser.find_element("css selector", "#every-error .data > button")

    browser.execute_script("arguments[0].click()", more)

    rows = page.with_name("page_errors.csv").read_text("utf-8").splitlines()
    assert len(shown_cells(browser, 1)) == len(rows) - 1
    assert not more.is_displayed()


@pytest.mark.parametrize("width", WIDTHS)
def test_dark_by_the_system_and_light_by_the_switch(browser, page, width):
    opened(browser, page, width, "dark")
    ground = "return getComputedStyle(document.body).backgroundColor"
    plate = (
        "return getComputedStyle(document.querySelector('.picture img'))"
        ".backgroundColor"
    )

    dark, under_picture = (
        browser.execute_script(script) for script in (ground, plate)
    )
    browser.find_element("css selector", ".scheme").click()
    light = browser.execute_script(ground)

    assert dark == "rgb(23, 25, 28)"
    assert under_picture == light == "rgb(255, 255, 255)"


def test_what_is_read_out_has_names(browser, page):
    opened(browser, page)

    nameless = browser.execute_script(
        "return [...document.querySelectorAll('img')].filter(i => !i.alt)"
        ".length + [...document.querySelectorAll('input, select')].filter("
        "f => !f.labels.length).length + [...document.querySelectorAll("
        "'[role=region]')].filter(r => !r.ariaLabel).length"
    )

    assert nameless == 0
