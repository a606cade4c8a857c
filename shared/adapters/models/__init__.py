"""The model endpoint: the Responses API and chat completions behind `LLMServiceProtocol`.

Start at `service.py`. Not here: which model is asked what (`shared/sessions/executor.py`), models as data
(`shared/sessions/llm/`).
"""
