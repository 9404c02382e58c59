"""What the hub knows of the app-server's methods (codex 0.163, its own schema and measured).

A method that is in none of these tables passes through untouched.
"""

from __future__ import annotations

# Notifications with a threadId that go to every initialized connection; the others go to the
# thread's subscribers.
BROADCAST = frozenset(
    {
        "thread/started",
        "thread/status/changed",
        "thread/closed",
        "thread/archived",
        "thread/unarchived",
        "thread/deleted",
        "thread/name/updated",
        "thread/reverted",
        "thread/project/updated",
        "thread/attachment/updated",
        "thread/goal/cleared",
        "thread/goal/updated",
        # codex 0.169.
        "thread/section/changed",
    }
)

# Which of them follow every resume, to say again how things stand (measured): after one of the
# hub's own nothing has changed, and only the thread's subscribers are told.
FOLLOWS_RESUME = frozenset({"thread/goal/cleared", "thread/goal/updated"})

# Notifications without a threadId that go to the subscribers of the thread whose turn caused them,
# and the one with a threadId that the server tells just before (measured).
CAUSED_BY_TURN = {"account/rateLimits/updated": "thread/tokenUsage/updated"}

# Notifications without a threadId that go to the one whose request caused them, of these methods;
# where nobody's does, to everybody (measured).
OF_WHO_ASKED = frozenset({"configWarning", "deprecationNotice"})
CAUSES_NOTICES = frozenset(
    {"review/start", "thread/fork", "thread/read", "thread/resume", "thread/revert", "thread/start"}
)
# What the server tells whoever resumes a thread, and nobody else on it; of a turn that runs, all.
TOLD_AT_RESUME = "thread/tokenUsage/updated"

# What a new connection is told unasked, once it is initialized.
REMOTE_CONTROL = "remoteControl/status/changed"
GREETING = frozenset({"configWarning", REMOTE_CONTROL})

# Requests that change nothing (a resume only loads): sent again if the server dies before it
# answers.
REPEATABLE = frozenset(
    {
        "account/rateLimits/read",
        "account/read",
        "account/securitySetup/read",
        "account/usage/read",
        "account/workspaceMessages/read",
        "accountSession/list",
        "app/installed",
        "app/list",
        "app/read",
        "collaborationMode/list",
        "config/read",
        "configRequirements/read",
        "environment/info",
        "environment/status",
        "experimentalFeature/list",
        "fs/getMetadata",
        "fs/readDirectory",
        "fs/readFile",
        "fuzzyFileSearch",
        "hooks/list",
        "mcpServer/resource/read",
        "mcpServerStatus/list",
        "memory/status",
        "model/list",
        "modelProvider/capabilities/read",
        "modelProvider/list",
        "permissionProfile/list",
        "plugin/installed",
        "plugin/list",
        "plugin/read",
        "plugin/search",
        "plugin/share/list",
        "plugin/skill/read",
        "project/list",
        "project/read",
        "remoteControl/status/read",
        "server/diagnostics",
        "skills/list",
        "thread/attachment/list",
        "thread/attachmentOwner/list",
        "thread/backgroundTerminals/list",
        "thread/goal/get",
        "thread/items/list",
        "thread/items/read",
        "thread/list",
        "thread/loaded/list",
        "thread/memory/read",
        "thread/queue/list",
        "thread/read",
        "thread/resume",
        "thread/realtime/listVoices",
        "thread/search",
        "thread/searchOccurrences",
        "thread/timeline/list",
        "thread/turns/list",
        "threadSection/list",
        "userVerification/status",
    }
)

# Requests whose answer makes the asking connection a subscriber of the thread in it.
SUBSCRIBING = frozenset({"thread/start", "thread/resume", "thread/fork"})
# Requests that make it a subscriber of the thread that they name, from when they are sent.
SUBSCRIBING_BY_NAME = frozenset(
    {
        "thread/guardianReview",
        "thread/realtime/appendAudio",
        "thread/realtime/appendSpeech",
        "thread/realtime/appendText",
        "thread/realtime/start",
        "thread/realtime/stop",
        "thread/resume",
        "thread/revert",
    }
)
# Those of them that do so also where they fail, but for these reasons (measured on codex 0.163
# and 0.169).
SUBSCRIBING_ANYWAY = SUBSCRIBING_BY_NAME - {"thread/resume"}
NEVER_BEGAN = ("Invalid request", "invalid thread id", "thread not found")
# Those of them whose thread is not known before the answer.
OPENING = frozenset({"thread/start", "thread/fork"})
# Requests that begin a turn; the answers to the first two say which.
TURN_STARTING = frozenset(
    {
        "turn/start",
        "review/start",
        "thread/compact/start",
        "thread/queue/start",
        "thread/shellCommand",
    }
)

# Requests whose answer changes what the hub knows, also when its client has left.
ANSWER_MATTERS = SUBSCRIBING | SUBSCRIBING_BY_NAME | TURN_STARTING | {"thread/unsubscribe"}

# Handles that a client chooses and that mean something on its connection only: the param (or
# the member of a notification's params) that holds it.
HANDLES = {
    "command/exec": "processId",
    "command/exec/write": "processId",
    "command/exec/terminate": "processId",
    "command/exec/resize": "processId",
    "command/exec/outputDelta": "processId",
    "process/spawn": "processHandle",
    "process/writeStdin": "processHandle",
    "process/kill": "processHandle",
    "process/resizePty": "processHandle",
    "process/outputDelta": "processHandle",
    "process/exited": "processHandle",
    "fs/watch": "watchId",
    "fs/unwatch": "watchId",
    "fs/changed": "watchId",
    "fuzzyFileSearch/sessionStart": "sessionId",
    "fuzzyFileSearch/sessionUpdate": "sessionId",
    "fuzzyFileSearch/sessionStop": "sessionId",
    "fuzzyFileSearch/sessionUpdated": "sessionId",
    "fuzzyFileSearch/sessionCompleted": "sessionId",
    "mcpServer/event/stream/start": "subscriptionId",
    "mcpServer/event/stream/stop": "subscriptionId",
    "mcpServer/event/stream/notification": "subscriptionId",
}

# Requests that name another one of the same connection by its JSON-RPC id: the param that holds it.
NAMES_REQUEST = {"thread/sample/cancel": "requestId", "userVerification/cancel": "requestId"}
# What ends them when their client leaves: nobody waits for their outcome.
CANCELS = {
    "thread/sample": "thread/sample/cancel",
    "userVerification/enroll": "userVerification/cancel",
    "userVerification/verify": "userVerification/cancel",
}

# How a handle that a request opened is let go when its client leaves.
RELEASES = {
    "command/exec": "command/exec/terminate",
    "process/spawn": "process/kill",
    "fs/watch": "fs/unwatch",
    "fuzzyFileSearch/sessionStart": "fuzzyFileSearch/sessionStop",
    "mcpServer/event/stream/start": "mcpServer/event/stream/stop",
}
# Handles that outlive the server for their client: opened again at the next one.
REOPENED = frozenset({"fs/watch", "fuzzyFileSearch/sessionStart", "mcpServer/event/stream/start"})
# What ends a handle by itself.
ENDS_HANDLE = frozenset(
    {
        "fs/unwatch",
        "fuzzyFileSearch/sessionStop",
        "mcpServer/event/stream/stop",
        "process/exited",
    }
)

# Requests of the server that ask a person for leave to do something.
APPROVALS = frozenset(
    {
        "item/commandExecution/requestApproval",
        "item/fileChange/requestApproval",
        "item/permissions/requestApproval",
        "item/tool/requestUserInput",
        "mcpServer/elicitation/request",
        "applyPatchApproval",
        "execCommandApproval",
    }
)

# A thread's rollout keeps most of its settings, also those changed later, and its instructions and
# tools; given again at a resume, the first ones would undo the later ones. `config` is not kept
# (measured), and of that these members are settings, too. For what else is not, see
# :mod:`.told_settings`.
SETTINGS_IN_CONFIG = frozenset(
    {
        "approval_policy",
        "model",
        "model_provider",
        "model_reasoning_effort",
        "sandbox_mode",
    }
)

# Requests in which a directory that is not named is that of the server's process (measured).
TAKES_CWD = frozenset({"thread/start", "command/exec"})
TAKES_CWDS = frozenset({"skills/list", "hooks/list"})
TAKES_ROOTS = frozenset({"fuzzyFileSearch", "fuzzyFileSearch/sessionStart"})
# Requests that take `config`, and the members of it that count for a thread as it was recorded,
# and not as the server was started (measured).
RECORDED_SETTINGS = {
    "thread/start": frozenset[str](),
    "thread/resume": SETTINGS_IN_CONFIG,
    "thread/fork": frozenset({"approval_policy", "sandbox_mode"}),
}
TAKES_PROFILE = TAKES_CWD | TAKES_CWDS | TAKES_ROOTS | RECORDED_SETTINGS.keys()
# What a thread was opened with and `thread/resume` takes again (codex 0.163, both schemas).
KEPT_BY_RESUME = (
    "approvalPolicy",
    "approvalsReviewer",
    "baseInstructions",
    "config",
    "cwd",
    "developerInstructions",
    "model",
    "modelProvider",
    "permissions",
    "personality",
    "runtimeWorkspaceRoots",
    "sandbox",
    "serviceTier",
)

# Requests that set something for the whole process, until it ends: for each, the param that says
# what. A later request with the same value there takes the place of the one before; None where
# any later one does.
PROCESS_SETTINGS: dict[str, str | None] = {
    "environment/add": "environmentId",
    "experimentalFeature/enablement/set": "enablement",
    "remoteControl/enable": None,
    "skills/extraRoots/set": None,
}
# What undoes one of them.
PROCESS_RESETS = {
    "account/logout": "account/login/start",
    "remoteControl/disable": "remoteControl/enable",
}

# Requests that begin something which a notification ends, and that notification.
LOGINS = {
    "account/login/start": "account/login/completed",
    "mcpServer/oauth/login": "mcpServer/oauthLogin/completed",
    "externalAgentConfig/import": "externalAgentConfig/import/completed",
}

# Requests after which there is something that only the hub knows.
KEPT = SUBSCRIBING | PROCESS_SETTINGS.keys() | PROCESS_RESETS.keys() | LOGINS.keys()
