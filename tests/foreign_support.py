"""Hold foreign texts that act, and make trajectories of their steps."""

QUERY = "<|begin_of_query|> Eiffel Tower city <|end_of_query|>"
DOCUMENTS = (
    "\n\n<|begin_of_documents|>\n(1)Title: Eiffel Tower Text: In Paris."
    "\n(2)Title: X Text: y\n<|end_of_documents|>\n\n"
)
ANSWER = "So.</think>\n\n <answer> Paris </answer>"
REACT = (
    "Thought: I need it.\nAction: search[Eiffel Tower city]\nObservation: None\n"
    "Thought: Known.\nAction:  finish[Paris]\nObservation: Episode finished, reward = True\n"
)
