"""Settings of the process, from the environment (``LEADLEDGER_…``); the rest is in leadledger.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic_settings import BaseSettings, SettingsConfigDict


class ProcessSettings(BaseSettings):
    """``LEADLEDGER_CONFIG``, ``LEADLEDGER_LOG_FORMAT`` (auto, json, text), ``LEADLEDGER_LOG_LEVEL``."""

    model_config = SettingsConfigDict(env_prefix="LEADLEDGER_", extra="ignore")

    config: Path = Path("leadledger.yaml")
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
