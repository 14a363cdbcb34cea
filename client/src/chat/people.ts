import { LIMITS, type Message, type UserId } from "@hubbub/server/protocol";
import { isPassing, waitAfter, type Api } from "./api.ts";
import type { Scope } from "./scope.ts";
import type { Chat } from "./store.ts";

const LEARN_AFTER_MS = 30;

/** Looks up the names of unknown people, many in one call. */
export function createPeople({ chat, scope, api }: { chat: Chat; scope: Scope; api: Api }) {
  const asked = new Set<UserId>();
  const toLearn = new Set<UserId>();

  async function ask(ids: readonly UserId[]): Promise<void> {
    for (const id of ids) asked.add(id);
    try {
      chat.dispatch({ type: "users", users: await api.users(ids) });
    } catch (error) {
      for (const id of ids) asked.delete(id);
      if (isPassing(error)) scope.after(waitAfter(error), () => learn(ids));
    }
  }

  return {
    learn,
    /** Learns the names that messages show. */
    learnFrom: (messages: readonly Message[]): void => learn(messages.flatMap(whoIsIn)),

    /** As `api.findUsers`; people who are found are known from now on. */
    async find(text: string, after: UserId | undefined, signal: AbortSignal) {
      const answer = await api.findUsers(text, after, signal);
      chat.dispatch({ type: "users", users: answer.found });
      return answer;
    },
  };

  function learn(ids: readonly UserId[]): void {
    const idle = toLearn.size === 0;
    for (const id of ids) if (!chat.state.users.has(id) && !asked.has(id)) toLearn.add(id);
    if (!idle || toLearn.size === 0) return;
    scope.after(LEARN_AFTER_MS, () => {
      const ready = [...toLearn];
      toLearn.clear();
      for (let from = 0; from < ready.length; from += LIMITS.userIds)
        void ask(ready.slice(from, from + LIMITS.userIds));
    });
  }
}

/** The users whose names a message shows. */
export function whoIsIn({ from, mentions = [] }: Message): UserId[] {
  return [from, ...mentions];
}

export type People = ReturnType<typeof createPeople>;
