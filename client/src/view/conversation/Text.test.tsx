import { renderToStaticMarkup } from "react-dom/server";
import { expect, test } from "vitest";
import { Text } from "./Text.tsx";

const draw = (text: string) => renderToStaticMarkup(<Text text={text} />).replaceAll(/ class="[^"]*"/g, "");
const LINK = 'target="_blank" rel="noopener noreferrer nofollow"';

test("a text is shown as typed, formatted once the parser has loaded, and its links open new tabs", async () => {
  const text = "Is <b>it</b> **x**, mailto:ann@x.example or `y`? Not javascript:alert(1).";
  expect(draw(text)).toContain("Is &lt;b&gt;it&lt;/b&gt; **x**,");
  await expect.poll(() => draw(text), { timeout: 30_000 }).toContain("<a ");
  expect(draw(text)).toBe(
    `<span data-part="text">Is &lt;b&gt;it&lt;/b&gt; <strong>x</strong>, <a href="mailto:ann@x.example" ${LINK}>mailto:ann@x.example</a> ` +
      "or <code>y</code>? Not javascript:alert(1).</span>",
  );
});

test("quotes, lists and code are elements of their own, each with the direction of its text", async () => {
  await expect.poll(() => draw("> a"), { timeout: 30_000 }).toContain("<blockquote");
  expect(draw("> a\n- b\n\n3. c\n```\n<d>\n```").replace(/<svg.*<\/svg>/, "")).toBe(
    '<div data-part="text"><blockquote dir="auto"><div>a</div></blockquote>' +
      '<ul dir="auto"><li><div>b</div></li></ul><ol dir="auto"><li value="3"><div>c</div></li></ol>' +
      '<div><pre dir="ltr"><code>&lt;d&gt;</code></pre><span><button type="button" aria-label="Copy code" title="Copy code"></button></span></div></div>',
  );
});
