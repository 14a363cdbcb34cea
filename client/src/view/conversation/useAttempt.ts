import { wordsOf } from "../../chat/api.ts";
import { useNotice } from "../ui/Notices.tsx";

/** Answers a function that carries out a change of a message, and shows why if it is refused at once. */
export function useAttempt(): (act: () => void) => void {
  const tell = useNotice();
  return (act) => {
    try {
      act();
    } catch (error) {
      tell(wordsOf(error));
    }
  };
}
