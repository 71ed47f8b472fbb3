"""The ledger's own words as people read them, in the languages that are built in: events, actions, reasons, checks.

Each table is keyed by the word as the ledger writes it, and holds English, Russian and Kazakh in this order.
"""

from __future__ import annotations

from collections.abc import Mapping

Table = Mapping[str, tuple[str, str, str]]

EVENTS: Table = {
    "consent.given": ("Consent given", "Согласие дано", "Келісім берілді"),
    "consent.refused": ("Consent refused", "В согласии отказано", "Келісімнен бас тартылды"),
    "consent.withdrawn": ("Consent withdrawn", "Согласие отозвано", "Келісім қайтарып алынды"),
    "consent.dismissed": ("The question was closed", "Вопрос закрыт без ответа", "Сұрақ жауапсыз жабылды"),
    "notice.seen": ("A notice was seen", "Уведомление просмотрено", "Хабарлама көрілді"),
    "account.linked": ("Linked to an account", "Связано с учётной записью", "Тіркелгімен байланыстырылды"),
    "account.unlinked": ("Unlinked from an account", "Отвязано от учётной записи", "Тіркелгіден ажыратылды"),
    "consent.expired": ("Consent expired", "Срок согласия истёк", "Келісім мерзімі бітті"),
    "consent.invalidated": (
        "Consent ended by a new policy",
        "Согласие прекращено новой политикой",
        "Жаңа саясат келісімді тоқтатты",
    ),
}

ACTIONS: Table = {
    "accept_all": ("accepted everything", "принято всё", "бәрі қабылданды"),
    "only_necessary": ("kept to the necessary", "только необходимое", "тек қажеттісі"),
    "customize": ("chose purpose by purpose", "выбор по каждой цели", "әр мақсат бойынша таңдалды"),
    "settings": ("changed in the settings", "изменено в настройках", "баптауда өзгертілді"),
    "withdraw": ("took consent back", "согласие взято назад", "келісім қайтарылды"),
    "dismiss": ("closed without an answer", "закрыто без ответа", "жауапсыз жабылды"),
    "gpc": ("a Global Privacy Control signal", "сигнал Global Privacy Control", "Global Privacy Control сигналы"),
    "api": ("recorded by a backend", "записано сервером сайта", "сайт сервері жазды"),
    "import": ("taken over from another system", "перенесено из другой системы", "басқа жүйеден көшірілді"),
    "guardian": ("a guardian acted", "действовал законный представитель", "заңды өкіл әрекет етті"),
}

BASES: Table = {
    "consent": ("consent", "согласие", "келісім"),
    "legitimate_interest": ("legitimate interest", "законный интерес", "заңды мүдде"),
    "contract": ("contract", "договор", "шарт"),
    "legal_obligation": ("legal obligation", "обязанность по закону", "заңды міндет"),
    "vital_interest": ("vital interest", "жизненный интерес", "өмірлік мүдде"),
    "public_task": ("public task", "общественная задача", "қоғамдық міндет"),
    "exemption": ("exempt from consent", "согласие не требуется", "келісім талап етілмейді"),
}

ROLES: Table = {
    "processor": ("processor", "обработчик", "өңдеуші"),
    "controller": ("controller of its own", "самостоятельный оператор", "дербес оператор"),
    "joint_controller": ("joint controller", "совместный оператор", "бірлескен оператор"),
}

TRANSFERS: Table = {
    "adequacy": ("adequate protection", "достаточная защита", "жеткілікті қорғау"),
    "consent": ("consent", "согласие", "келісім"),
    "contractual_clauses": ("contractual clauses", "договорные положения", "шарттық ережелер"),
    "binding_rules": ("binding rules", "обязательные правила", "міндетті қағидалар"),
    "derogation": ("derogation", "исключение", "ерекше жағдай"),
}

REASONS: Table = {
    "granted": ("allowed", "разрешено", "рұқсат берілген"),
    "refused": ("refused", "отказ", "бас тартылған"),
    "withdrawn": ("withdrawn", "отозвано", "қайтарып алынған"),
    "never_asked": ("not answered", "нет ответа", "жауап жоқ"),
    "expired": ("expired", "срок истёк", "мерзімі біткен"),
    "policy_changed": ("the policy changed", "политика изменилась", "саясат өзгерген"),
    "gpc": ("Global Privacy Control", "Global Privacy Control", "Global Privacy Control"),
    "suppressed": ("suppressed", "приостановлено", "тоқтатылған"),
    "erasure_pending": ("about to be erased", "будет удалено", "жойылғалы тұр"),
    "restricted": ("restricted", "ограничено", "шектелген"),
    "opt_out_default": ("allowed by default", "разрешено по умолчанию", "әдепкіде рұқсат"),
    "not_required": ("needs no consent", "согласие не нужно", "келісім қажет емес"),
    "unknown_purpose": ("no such purpose", "нет такой цели", "мұндай мақсат жоқ"),
    "no_policy": ("no policy", "нет политики", "саясат жоқ"),
    "conflict": ("browser and account differ", "браузер и учётная запись расходятся", "браузер мен тіркелгі әртүрлі"),
    "withdrawal_barred": ("withdrawal is barred", "отзыв невозможен", "қайтарып алу мүмкін емес"),
    "age_unconfirmed": ("age not confirmed", "возраст не подтверждён", "жасы расталмаған"),
}

CHECKS: Table = {
    "receipt": ("the receipt's form", "форма квитанции", "түбіртек пішіні"),
    "entry": ("the entry", "запись журнала", "журнал жазбасы"),
    "position": ("place and time", "место и время", "орны мен уақыты"),
    "commitment": ("the commitment to the content", "связь с содержанием", "мазмұнмен байланысы"),
    "payload": ("the content", "содержание", "мазмұны"),
    "log": ("whose log it is", "чей это журнал", "журнал кімдікі"),
    "signature": ("the server's signature", "подпись сервера", "сервер қолтаңбасы"),
    "proof": ("the proof's form", "форма доказательства", "дәлел пішіні"),
    "checkpoint": ("the log's signature", "подпись журнала", "журнал қолтаңбасы"),
    "inclusion": ("that the log holds it", "наличие в журнале", "журналда болуы"),
    "witnesses": ("witnesses", "свидетели", "куәлер"),
    "time": ("the time", "время", "уақыты"),
}

LAYOUT: Table = {
    "banner": ("banner", "баннер", "баннер"),
    "modal": ("window over the page", "окно поверх страницы", "бет үстіндегі терезе"),
    "panel": ("panel", "панель", "панель"),
    "page": ("page of its own", "отдельная страница", "жеке бет"),
    "top": ("top", "сверху", "жоғарыда"),
    "bottom": ("bottom", "снизу", "төменде"),
    "left": ("left", "слева", "сол жақта"),
    "right": ("right", "справа", "оң жақта"),
    "center": ("centre", "по центру", "ортада"),
    "full": ("the whole screen", "на весь экран", "бүкіл экранда"),
    "equal": ("as prominent as accepting", "так же заметен, как согласие", "келісумен бірдей көрнекі"),
    "first-layer": ("at once, less prominent", "сразу, но менее заметен", "бірден, бірақ көрнекілігі аз"),
    "second-layer": ("behind another click", "только после ещё одного нажатия", "тағы бір басудан кейін ғана"),
    "not-offered": ("not offered", "не предложен", "ұсынылмаған"),
}

TERMS: tuple[Table, ...] = (EVENTS, ACTIONS, BASES, ROLES, TRANSFERS, REASONS, CHECKS, LAYOUT)
