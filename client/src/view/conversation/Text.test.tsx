import { findLinks } from "@hubbub/server/links";
import { renderToStaticMarkup } from "react-dom/server";
import { expect, test } from "vitest";
import { Text } from "./Text.tsx";

test("a text is shown as it was typed, with the links that the export has too, each in a tab of its own", async () => {
  const text =
    "Is <b>it</b> https://x.example/a_(b)?c=1&d=2, or mailto:ann@x.example? Not javascript:alert(1).";
  const draw = () => renderToStaticMarkup(<Text text={text} />);
  await expect.poll(draw).toContain("<a ");
  const html = draw();
  const read = (escaped: string) =>
    escaped.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
  expect(read(html.replaceAll(/<\/?(?:a|span)\b[^>]*>/g, ""))).toBe(text);
  const shown = [...html.matchAll(/<a href="([^"]*)" target="_blank" rel="noopener noreferrer nofollow">/g)];
  const links = findLinks(text).flatMap(({ href }) => href ?? []);
  expect(shown.map(([, href = ""]) => read(href))).toEqual(links);
  expect(links).toEqual(["https://x.example/a_(b)?c=1&d=2", "mailto:ann@x.example"]);
});
