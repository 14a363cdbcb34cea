import { useEffect } from "react";
import { account } from "../../chat/account.ts";
import { useClient } from "../useChat.ts";

/** Looks at one's own account anew: an owner may have given, or taken, a role meanwhile. */
export function useFreshMe(): void {
  const chat = useClient();
  useEffect(() => {
    account(chat.call())
      .me()
      .then(chat.showMe, () => {});
  }, [chat]);
}
