import { expect, test } from "vitest";
import { createApi, type ChatError } from "./api.ts";

/** What a call throws that is answered like this. */
function thrownBy(status: number, text: string): Promise<ChatError> {
  const api = createApi(async () => new Response(text, { status }));
  return api
    .call("PUT", "/me/avatar", new Blob(["picture"]))
    .catch((error: ChatError) => error) as Promise<ChatError>;
}

test("what a proxy's own page says is too large is too large, and its other errors may pass", async () => {
  const page = "<html><h1>Error</h1></html>";
  expect(await thrownBy(413, page)).toMatchObject({
    code: "too_large",
    message: "Too large: a proxy in front of the server does not let it through.",
  });
  const own = JSON.stringify({ code: "too_large", message: "The picture is too large." });
  expect(await thrownBy(413, own)).toMatchObject({ message: "The picture is too large." });
  for (const status of [403, 404, 502])
    expect(await thrownBy(status, page)).toMatchObject({ code: "unreachable" });
});
