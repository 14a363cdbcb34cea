import { isUnderWay } from "../chat/state.ts";
import { Icon } from "./Icon.tsx";
import { useChat } from "./useChat.ts";

/** Tells of trouble with the connection, and of its end. It floats: nothing moves when it comes and goes. */
export function ConnectionBar() {
  const connection = useChat((state) => state.connection);
  const returned = useChat((state) => state.returned);
  const waiting = useChat((state) => state.outgoing.filter(isUnderWay).length);
  const offline = connection === "offline";
  return (
    <div className="connection" aria-live="polite">
      {offline && (
        <p className="connection-bar connection-off">
          <Icon name="retry" />
          <span>
            You are offline. Reconnecting…
            {waiting > 0 &&
              ` ${waiting === 1 ? "One message waits" : `${waiting} messages wait`} to be sent.`}
          </span>
        </p>
      )}
      {!offline && returned !== null && (
        <p className="connection-bar connection-on">
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
