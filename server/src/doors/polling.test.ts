import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PATIENCE_MS, person, replicas, until, type House, type Person } from "../testing.ts";

/** A client by long-polling, request by request. */
class Poller {
  readonly #headers: Record<string, string>;
  #url: string;

  constructor({ browser }: Person) {
    this.#headers = { cookie: browser.cookie, origin: browser.address };
    this.#url = `${browser.address}/socket.io/?EIO=4&transport=polling`;
  }

  /** Resolves once the client is connected. */
  static async enter(who: Person): Promise<Poller> {
    const poller = new Poller(who);
    const [, sid] = /"sid":"([^"]+)"/.exec((await poller.poll()).text) ?? [];
    poller.#url += `&sid=${sid}`;
    expect(await poller.post("40")).toBe(200);
    await until(async () => (await poller.poll()).text.includes("40{"), PATIENCE_MS, "the connection");
    return poller;
  }

  async poll(): Promise<{ status: number; text: string }> {
    const response = await fetch(this.#url, { headers: this.#headers });
    return { status: response.status, text: await response.text() };
  }

  /** Sends packets in one request; answers its status, or 0 if it was cut. */
  post(...packets: string[]): Promise<number> {
    const body = packets.join("\u001e");
    return fetch(this.#url, { method: "POST", headers: this.#headers, body }).then(
      async (response) => (await response.text(), response.status),
      () => 0,
    );
  }
}

let house: House;
let mary: Person;
beforeAll(async () => {
  house = await replicas(1, { POLLING: "on" });
  mary = await person(house.replicas[0]!, "mary");
});
afterAll(async () => {
  mary.close();
  await house.close();
});

const message = (text: string) =>
  `42["message",${JSON.stringify({ roomId: "0", message: text, nonce: text })}]`;

describe("of packets in one request", () => {
  it("those before the end of the connection are carried out, and those after it are not", async () => {
    const poller = await Poller.enter(mary);
    await poller.post(message("before"), "41", message("after"));
    await mary.hears("before");
    await mary.say("0", "at last");
    await mary.hears("at last");
    expect(mary.messages.map((one) => one.message)).toEqual(["before", "at last"]);
  });
});
