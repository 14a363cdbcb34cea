import { assert, constantFrom, property, string } from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { person, replicas, type House } from "../testing.ts";
import { bodyToHtml, sanitized, textToHtml } from "./transcript.ts";

const inExport = (text: string) => sanitized(textToHtml(text));

let house: House;

beforeAll(async () => {
  house = await replicas(1);
});

afterAll(() => house.close());

it("a text without markup reads in HTML exactly as typed", () => {
  const decode = (html: string) =>
    html
      .replaceAll(/^<div dir="auto">|<\/div>$|<a href="[^"]*" rel="[^"]*">|<\/a>/g, "")
      .replaceAll(/<br ?\/?>/g, "\n")
      .replaceAll("&lt;", "<")
      .replaceAll("&gt;", ">")
      .replaceAll("&quot;", '"')
      .replaceAll("&amp;", "&");
  for (const text of [
    "a<b && c>d",
    "&lt;",
    "<script>x</script>",
    "🙂 <b>",
    'say "https://x.example/?a=1&b=2".',
  ]) {
    expect(decode(inExport(text))).toBe(text);
  }
  const plain = Array.from({ length: 94 }, (_, index) => String.fromCharCode(33 + index)).filter(
    (sign) => !/[*_~`[\]\\>+\-.)]/.test(sign),
  );
  assert(
    property(string({ unit: constantFrom(...plain, " ", "\n", "é", "🙂") }), (text) => {
      expect(decode(inExport(text))).toBe(text);
    }),
  );
});

it("a text is formatted in the export as in the app", () => {
  expect(inExport("**a** _b_ ~~c~~ `<d>`\n@ann")).toBe(
    '<div dir="auto"><strong>a</strong> <em>b</em> <s>c</s> <code>&lt;d&gt;</code><br />@ann</div>',
  );
  expect(inExport("```ts\na < b\n```")).toBe("<pre><code>\na &lt; b</code></pre>");
  expect(inExport("> a\n- b\n\n7. c")).toBe(
    '<blockquote dir="auto"><div>a</div></blockquote><ul dir="auto"><li><div>b</div></li></ul>' +
      '<ol dir="auto"><li value="7"><div>c</div></li></ol>',
  );
});

it("a text of nothing visible is told of, emoji alone are large, and what is deleted is gone", () => {
  for (const message of [" ", "\u200b\n", "\u2800"])
    expect(bodyToHtml({ message })).toBe("<i>An empty message</i>");
  expect(sanitized(bodyToHtml({ message: "🎉" }))).toBe('<div class="emoji"><div dir="auto">🎉</div></div>');
  expect(bodyToHtml({ message: "", deleted: 5 })).toBe("<i>deleted</i>");
});

it("the export's HTML holds only formatting and links to web addresses", () => {
  expect(inExport("<img src=x onerror=alert(1)>")).not.toMatch(/<img/);
  expect(inExport("javascript:alert(1)")).toBe('<div dir="auto">javascript:alert(1)</div>');
  expect(inExport("[a](javascript:alert(1))")).not.toMatch(/<a/);
  expect(inExport("```<script>\n</code><script>alert(1)</script>\n```")).not.toMatch(/<script/);
  expect(inExport('https://x.example/"onmouseover="alert(1)')).not.toMatch(/<a [^>]*onmouseover/);
  expect(inExport("see https://x.example/a?b=1&c=2.")).toBe(
    '<div dir="auto">see <a href="https://x.example/a?b=1&amp;c=2" rel="noopener noreferrer nofollow">https://x.example/a?b=1&amp;c=2</a>.</div>',
  );
});

it("only a member gets the whole history as one page", async () => {
  const [ana, ben, eve] = [
    await person(house.replicas[0]!),
    await person(house.replicas[0]!),
    await person(house.replicas[0]!),
  ];
  const roomId = `${ana.user.id}:${ben.user.id}`;
  for (let number = 1; number <= 120; number += 1) await ana.say(roomId, `line ${number} <&>`);
  const { status, body, headers } = await ben.browser.get<string>(`/api/rooms/${roomId}/transcript`);
  expect(status).toBe(200);
  expect(headers.get("content-disposition")).toContain("transcript.html");
  const lines = [...body.matchAll(/line (\d+) &lt;&amp;&gt;/g)].map(([, number]) => Number(number));
  expect(lines).toEqual(Array.from({ length: 120 }, (_, index) => index + 1));
  expect((await eve.browser.get(`/api/rooms/${roomId}/transcript`)).status).toBe(404);
  for (const one of [ana, ben, eve]) one.close();
});
