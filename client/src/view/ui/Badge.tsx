import type { ReactNode } from "react";
import css from "./Badge.module.css";

/** A number that stays short. */
export function countOf(number: number): string {
  return number > 99 ? "99+" : String(number);
}

/** The number of unread messages. */
export function Badge({ count, children }: { count: number; children?: ReactNode }) {
  return (
    <span data-part="unread" className={css.badge}>
      {countOf(count)}
      {children}
    </span>
  );
}

/** The number of messages that mention this user. */
export function MentionBadge({ count }: { count: number }) {
  return (
    <span data-part="mentions" className={css.mentions}>
      @{countOf(count)}
      <span className="hidden"> {count === 1 ? "mention" : "mentions"}, </span>
    </span>
  );
}

/** A word that describes what precedes it. */
export function Tag({ children }: { children: ReactNode }) {
  return <span className={css.tag}>{children}</span>;
}
