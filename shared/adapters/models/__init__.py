"""The model endpoint: the Responses API and chat completions behind `LLMServiceProtocol`.

Start at `service.py`. Not here: building a turn's requests (`shared/sessions/executor.py`), model facts as data
(`shared/sessions/llm/`).
"""
