import type { IncomingMessage } from "node:http";
import type { Request } from "express";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
import { ChatError } from "../errors.ts";

/** An address that nobody has (RFC 5737), as the doctor forges it: a server that counts it under it believes anybody. */
export const INVENTED = "203.0.113.77";

export type Proxies = {
  /** Logs, once for each way in which TRUST_PROXY is wrong, what to do. */
  watch: (request: IncomingMessage) => void;
  /**
   * Throws `internal` if the browser would not keep the session's cookie. express-session then sends none, and the
   * answer would look like a success.
   */
  demandCookie: (request: Request) => void;
};

/** Checks whether TRUST_PROXY and COOKIE_SECURE fit the proxies between browsers and a replica. */
export function createProxies(
  { trustProxy, cookieSecure }: Pick<Config, "trustProxy" | "cookieSecure">,
  log: Logger,
): Proxies {
  const told = new Set<string>();
  const tell = (peer: string | undefined, hops: number, words: string): void => {
    if (told.has(words)) return;
    told.add(words);
    log.warn({ peer, hops, trustProxy }, words);
  };
  return {
    watch({ headers, socket, url = "" }) {
      const header = headers["x-forwarded-for"];
      if (header?.includes(INVENTED)) return;
      const hops = header === undefined ? 0 : String(header).split(",").length;
      if (hops === trustProxy) return;
      const peer = socket.remoteAddress;
      if (hops > trustProxy)
        tell(
          peer,
          hops,
          "X-Forwarded-For names more proxies than TRUST_PROXY: unless a client wrote it, everybody behind the proxy " +
            "counts as one address; set TRUST_PROXY to the number of proxies",
        );
      // Health checks come directly, from the local network.
      else if (/^\/(api|socket\.io)\//.test(url))
        tell(
          peer,
          hops,
          "X-Forwarded-For names fewer proxies than TRUST_PROXY: clients can invent their address; " +
            "set TRUST_PROXY to the number of proxies, and let each of them add its X-Forwarded-For",
        );
    },
    demandCookie(request) {
      if (!cookieSecure || request.secure) return;
      if (!told.has("cookie"))
        log.error(
          { forwardedProto: request.headers["x-forwarded-proto"] !== undefined, trustProxy },
          "nobody can log in: COOKIE_SECURE=on, and this request did not come by HTTPS. Behind HTTPS the proxy must " +
            "send X-Forwarded-Proto: https and TRUST_PROXY must count it; without HTTPS set COOKIE_SECURE=off",
        );
      told.add("cookie");
      throw new ChatError(
        "internal",
        "Nobody can log in here: the server is set up for HTTPS, and this is not. Tell whoever runs it.",
      );
    },
  };
}
