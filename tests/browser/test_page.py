"""The page, as people use it."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage, register, say
from tests.support.people import Person, unused_name
from tests.support.server import Server


def texts(page: Page) -> list[str]:
    return page.locator("#messages .text").all_text_contents()


def test_two_people_register_and_talk(open_page: OpenPage) -> None:
    alice, bob = open_page(), open_page(width=375)
    names = unused_name("alice"), unused_name("bob")
    register(alice, names[0])
    register(bob, names[1])
    say(alice, "hello, bob")
    expect(bob.locator("#messages li").last).to_contain_text("hello, bob")
    expect(bob.locator("#messages li .author").last).to_have_text(names[0])
    say(bob, "hello, alice")
    expect(alice.locator("#messages li").last).to_contain_text("hello, alice")
    expect(alice.locator("#people")).to_contain_text(names[1])
    for page in (alice, bob):
        expect(page.locator("#status")).to_have_text("Connected")
        expect(page.locator(".note", has_text="sending")).to_have_count(0)


def test_text_is_shown_as_text(open_page: OpenPage) -> None:
    page = open_page()
    register(page, unused_name("mallory"))
    hostile = "<img src=x onerror=\"document.title='hacked'\"><b>bold</b> & <script>1</script>"
    say(page, hostile)
    expect(page.locator("#messages .text").last).to_have_text(hostile)
    expect(page.locator("#messages b, #messages img, #messages script")).to_have_count(0)
    expect(page).to_have_title("ByteChat")


def test_a_reload_finds_session_and_messages_again(open_page: OpenPage) -> None:
    page = open_page()
    name = unused_name("alice")
    register(page, name)
    say(page, f"{name} was here")
    expect(page.locator("#messages .text").last).to_have_text(f"{name} was here")
    page.reload()
    expect(page.locator("#messages .text").last).to_have_text(f"{name} was here")
    expect(page.locator("#me")).to_have_text(name)


def test_the_token_is_out_of_reach_of_scripts(open_page: OpenPage) -> None:
    page = open_page()
    register(page, unused_name("alice"))
    assert "bytechat_session" not in page.evaluate("document.cookie")
    assert page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})") == "{}"
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    assert cookies["bytechat_session"]["httpOnly"] is True
    assert cookies["bytechat_session"]["sameSite"] == "Lax"


def test_signing_out_and_in_again(open_page: OpenPage) -> None:
    page = open_page()
    name = unused_name("alice")
    register(page, name)
    page.click("#sign-out")
    expect(page.locator("#gate")).to_be_visible()
    page.reload()
    expect(page.locator("#gate")).to_be_visible()
    page.fill("#username", name.upper())
    page.fill("#password", "wrong password")
    page.press("#password", "Enter")
    expect(page.locator("#gate-error")).to_contain_text("wrong")
    page.fill("#password", "123456")
    page.press("#password", "Enter")
    expect(page.locator("#me")).to_have_text(name)


def test_what_is_wrong_with_a_registration_is_said(open_page: OpenPage) -> None:
    page = open_page()
    page.fill("#username", "two words")
    page.fill("#password", "123456")
    page.click("button[value=register]")
    expect(page.locator("#gate-error")).to_have_text("A name has letters, digits and _ . - only.")
    page.fill("#username", unused_name("alice"))
    page.fill("#password", "12345")
    page.click("button[value=register]")
    expect(page.locator("#gate-error")).to_contain_text("at least 6 characters")


def test_history_is_read_back_page_by_page(open_page: OpenPage, server: Server) -> None:
    alice = Person(server)
    with alice.talk() as talk:
        for number in range(120):
            talk.say(f"line {number}")
    page = open_page()
    register(page, unused_name("bob"))
    expect(page.locator("#messages li")).to_have_count(50)
    expect(page.locator("#messages li").last).to_be_in_viewport()
    for _ in range(2):
        first = page.locator("#messages .text").first.text_content() or ""
        page.click("#earlier")
        expect(page.locator("#messages .text").first).not_to_have_text(first)
    shown = [text for text in texts(page) if text.startswith("line ")]
    assert shown == [f"line {number}" for number in range(120)]


def test_a_message_that_is_refused_is_not_lost_silently(open_page: OpenPage) -> None:
    page = open_page()
    register(page, unused_name("alice"))
    say(page, "x" * 4001)
    expect(page.locator("#messages li.failed .note")).to_have_text("not sent: too long")
    say(page, "shorter")
    expect(page.locator("#messages li:not(.failed) .text").last).to_have_text("shorter")


def test_the_page_comes_back_by_itself_and_misses_nothing(
    open_page: OpenPage, server: Server
) -> None:
    page = open_page()
    register(page, unused_name("alice"))
    say(page, "before the restart")
    expect(page.locator("#messages .text").last).to_have_text("before the restart")
    expect(page.locator(".note", has_text="sending")).to_have_count(0)
    server.terminate()
    expect(page.locator("#status")).to_have_text(re.compile("lost"))
    say(page, "said while it was away")
    expect(page.locator(".note", has_text="sending")).to_have_count(1)
    server.start()
    bob = Person(server, "bob")
    with bob.talk() as talk:
        talk.say("said before the page was back")
    expect(page.locator("#status")).to_have_text("Connected", timeout=20_000)
    expect(page.locator(".note", has_text="sending")).to_have_count(0, timeout=20_000)
    assert sorted(texts(page)[-2:]) == ["said before the page was back", "said while it was away"]
    assert [m["text"] for m in bob.history()].count("said while it was away") == 1


def test_a_session_that_ends_elsewhere_leads_back_to_the_gate(
    open_page: OpenPage, server: Server
) -> None:
    page = open_page()
    register(page, unused_name("alice"))
    expect(page.locator("#status")).to_have_text("Connected")
    page.context.request.post(
        f"{server.url}/logout",
        headers={"X-CSRF-TOKEN": page.evaluate("document.cookie.split('bytechat_csrf=')[1]")},
    )
    expect(page.locator("#gate-error")).to_have_text("You were signed out. Sign in again.")


def test_what_one_writes_never_appears_under_another_name(
    open_page: OpenPage, server: Server
) -> None:
    page = open_page()
    register(page, unused_name("alice"))
    expect(page.locator("#status")).to_have_text("Connected")
    bob = Person(server, "bob")
    server.terminate()
    expect(page.locator("#status")).to_have_text(re.compile("lost"))
    say(page, "written by alice")
    page.context.add_cookies(  # as another tab does that signs in
        [{"name": "bytechat_session", "value": bob.token, "url": server.url}]
    )
    server.start()
    expect(page.locator("#gate-error")).to_contain_text("signed out", timeout=20_000)
    assert "written by alice" not in [m["text"] for m in bob.history()]


def test_a_phone_shows_it_all_without_sideways_scrolling(open_page: OpenPage) -> None:
    page = open_page(width=375, locale="ru-RU")
    expect(page.locator("#gate button").first).to_have_text("Войти")
    register(page, unused_name("маша"))
    say(page, "длинноеслово" * 50)
    expect(page.locator("#status")).to_have_text("На связи")
    expect(page.locator("#composer button")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.evaluate("document.getElementById('scroll').scrollWidth") <= 375


def test_the_page_is_used_with_the_keyboard_alone(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.locator("#username")).to_be_focused()
    page.keyboard.type(unused_name("alice"))
    page.keyboard.press("Tab")
    page.keyboard.type("123456")
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # on the second button: register
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("typed")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("in two lines")
    page.keyboard.press("Enter")
    expect(page.locator("#messages .text").last).to_have_text("typed\nin two lines")


def test_the_docs_load_nothing_from_elsewhere(open_page: OpenPage, server: Server) -> None:
    page = open_page(url=f"{server.url}/docs")
    expect(page.locator(".opblock")).not_to_have_count(0)
    expect(page.locator("#swagger-ui")).to_contain_text("/rooms/{room}/messages")
