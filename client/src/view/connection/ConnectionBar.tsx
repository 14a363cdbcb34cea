import { isUnderWay } from "../../chat/state/outgoing.ts";
import { classes } from "../ui/classes.ts";
import { Icon } from "../ui/Icon.tsx";
import { useChat } from "../useChat.ts";
import { useNetwork } from "../useMedia.ts";
import css from "./ConnectionBar.module.css";

/** Shows trouble with the connection, and when it is over. It has its own place, so that it covers nothing. */
export function ConnectionBar() {
  const connection = useChat((state) => state.connection);
  const returned = useChat((state) => state.returned);
  const waiting = useChat((state) => state.outgoing.filter(isUnderWay).length);
  const network = useNetwork();
  const trouble = connection === "connecting" || connection === "offline";
  return (
    <div className={css.place} aria-live="polite">
      {trouble && (
        <p data-part="trouble" className={classes(css.bar, css.trouble)}>
          <Icon name="retry" />
          <span>
            {!network
              ? "You are offline. There is no network."
              : connection === "connecting"
                ? "Connecting…"
                : "You are offline. Reconnecting…"}
            {waiting > 0 &&
              ` ${waiting === 1 ? "One message waits" : `${waiting} messages wait`} to be sent.`}
          </span>
        </p>
      )}
      {!trouble && returned !== null && (
        <p data-part="back" className={classes(css.bar, css.back)}>
          <Icon name="check" />
          <span>
            Back.{" "}
            {returned === 0
              ? "You missed nothing."
              : returned === 1
                ? "1 new message."
                : `${returned} new messages.`}
          </span>
        </p>
      )}
    </div>
  );
}
