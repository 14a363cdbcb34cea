import { describe, expect, test } from "vitest";
import { waitAskedFor } from "./socket.ts";

describe("the wait that a server asks for", () => {
  const closed = (code: number, reason: string) => ({
    description: "websocket connection closed",
    context: { code, reason },
  });

  test("is read from the close code and reason of the WebSocket", () => {
    expect(waitAskedFor(closed(1013, "rate_limited 4200"))).toBe(4_200);
  });

  test("is 0 for any other end", () => {
    const others = [
      closed(1013, ""),
      closed(1013, "rate_limited"),
      closed(1013, "rate_limited -5"),
      closed(1013, "rate_limited 1e9"),
      closed(1013, "rate_limited 10 and more"),
      closed(1001, "rate_limited 4200"),
      { description: "ping timeout" },
      new Error("xhr poll error"),
      undefined,
      null,
      "transport close",
    ];
    expect(others.map(waitAskedFor)).toEqual(others.map(() => 0));
  });

  test("is never longer than a timer can hold", () => {
    expect(waitAskedFor(closed(1013, `rate_limited ${"9".repeat(400)}`))).toBeLessThan(2 ** 31);
  });
});
