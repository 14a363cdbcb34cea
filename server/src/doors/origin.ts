import type { IncomingMessage } from "node:http";
import type { Request } from "express";
import { isIP } from "node:net";
import type { Logger } from "pino";
import type { Config } from "../config.ts";
import { clientAddress, type Security } from "../security.ts";

/** What browsers send; `null` and anything else matches no page. */
const ORIGIN = /^https?:\/\/[^\s/?#@\\]+$/i;
/** How many refused addresses are logged, once each: enough to see a mistake, too few to fill a disk. */
const LOGGED = 50;
const LOGGED_LENGTH = 200;

export const NOT_OWN =
  "This page's address is not known to be this server's own. Whoever runs the server sets PUBLIC_URL.";

export type Origins = {
  /**
   * Whether a browser on this page may act with the user's cookie; counts a refusal. Programs send no Origin, and hold
   * no other site's cookie.
   */
  isOwn: (request: IncomingMessage) => boolean;
};

/**
 * The server's own addresses: PUBLIC_URL and ORIGINS; without either, those that no foreign site can have, whatever its
 * name server says: loopback names, IP addresses, and the name in HOST.
 */
export function createOrigins(
  config: Pick<Config, "publicOrigins" | "origins" | "cookieSecure" | "host" | "trustProxy" | "production">,
  security: Pick<Security, "note">,
  log: Logger,
): Origins {
  const own = new Set([...config.publicOrigins, ...config.origins]);
  const logged = new Set<string>();
  // ORIGINS says nothing of where this server's own page is.
  if (config.production && config.publicOrigins.length === 0)
    log.info("PUBLIC_URL is not set: browsers are let in at loopback names and IP addresses only");

  function check({ headers }: IncomingMessage): boolean {
    const { origin, host = "" } = headers;
    const site = headers["sec-fetch-site"];
    if (origin === undefined) return site === undefined || site === "same-origin" || site === "none";
    if (!ORIGIN.test(origin) || !URL.canParse(origin)) return false;
    const from = new URL(origin);
    if (own.has(from.origin)) return true;
    // The page has the scheme, name and port that the request went to; for the scheme we have only the page's word.
    const to = `${from.protocol}//${host}`;
    if (!ORIGIN.test(to) || !URL.canParse(to) || new URL(to).origin !== from.origin) return false;
    return (
      cannotBeRebound(from.hostname, config.host) && (from.protocol === "https:" || !config.cookieSecure)
    );
  }

  return {
    isOwn(request) {
      if (check(request)) return true;
      security.note("origin.refused", { address: clientAddress(request, config.trustProxy) });
      const [origin, host] = [request.headers.origin, request.headers.host].map((text = "") =>
        text.slice(0, LOGGED_LENGTH),
      );
      const pair = `${origin} ${host}`;
      if (logged.size < LOGGED && !logged.has(pair)) {
        logged.add(pair);
        log.warn(
          { origin, host },
          "a page whose address is not this server's own was refused: if people reach it there, set PUBLIC_URL, or ORIGINS for a page at another name of the same site",
        );
      }
      return false;
    },
  };
}

/**
 * Whether only the owner of this machine or network can make that name lead here: a foreign name may lead anywhere.
 */
function cannotBeRebound(name: string, host: string): boolean {
  if (name === "localhost" || name.endsWith(".localhost")) return true;
  return isIP(name.replaceAll(/^\[|\]$/g, "")) > 0 || name === host.toLowerCase();
}

/** Where people reach the server, for a link: as configured, or as whoever asks for the link has reached it. */
export function pageAddress(request: Request, { publicOrigins }: Pick<Config, "publicOrigins">): string {
  return publicOrigins[0] ?? `${request.protocol}://${request.get("host") ?? ""}`;
}
