import { assert, property, string } from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { person, replicas, type House } from "../testing.ts";
import { textToHtml } from "./transcript.ts";

let house: House;

beforeAll(async () => {
  house = await replicas(1);
});

afterAll(() => house.close());

it("a text reads in HTML as it was typed, character by character", () => {
  const decode = (html: string) =>
    html
      .replaceAll(/<a href="[^"]*" rel="[^"]*">|<\/a>/g, "")
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
    expect(decode(textToHtml(text))).toBe(text);
  }
  assert(
    property(string(), (text) => {
      expect(decode(textToHtml(text))).toBe(text);
    }),
  );
});

it("nothing but links to web addresses is let through", () => {
  expect(textToHtml("<img src=x onerror=alert(1)>")).not.toMatch(/<img/);
  expect(textToHtml("javascript:alert(1)")).toBe("javascript:alert(1)");
  expect(textToHtml('https://x.example/"onmouseover="alert(1)')).not.toMatch(/<a [^>]*onmouseover/);
  expect(textToHtml("see https://x.example/a?b=1&c=2.")).toBe(
    'see <a href="https://x.example/a?b=1&amp;c=2" rel="noopener noreferrer nofollow">https://x.example/a?b=1&amp;c=2</a>.',
  );
});

it("a member gets the whole history as one page, and nobody else does", async () => {
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
