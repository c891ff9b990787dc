"""Other names of the expressions, and what the numbers and abbreviations of known data sets stand for.

An alias is a form of the word itself (anger, angered), the word of another language, or a synonym that a published
data set or service uses for the very class. Words that only lean towards an expression (mad, annoyed, calm, bored,
excited, unhappy, shocked, smile) are no aliases: a person must decide.
"""

from collections.abc import Mapping

from schemas.vocabulary import EXPRESSIONS

_ENGLISH = {
    "angry": "anger, angered, angrily",
    "disgust": "disgusted, disgusting, disgustedly",
    "fear": "fearful, fearfully, fearfulness, feared, afraid, scared, frightened",  # KDEF: afraid; FaceReader: scared
    "happy": "happiness, happily, joy, joyful, joyous",  # MELD, Affdex, Google Vision: joy
    "sad": "sadness, sadly, saddened, sorrow, sorrowful",  # Google Vision: sorrow
    "surprise": "surprised, surprising, pleasant surprise, pleasantly surprised, pleasant surprised",  # TESS
    "neutral": "neutrality, neutrally, expressionless",
    "contempt": "contemptuous, contemptuously",
}

_CHINESE = {
    "angry": "生气, 愤怒, 发怒, 怒, 生氣, 憤怒, 發怒",
    "disgust": "厌恶, 恶心, 厭惡, 噁心",
    "fear": "害怕, 恐惧, 惧怕, 恐懼, 懼怕",
    "happy": "高兴, 开心, 快乐, 喜悦, 愉快, 高興, 開心, 快樂, 喜悅",
    "sad": "伤心, 悲伤, 难过, 哀伤, 傷心, 悲傷, 難過, 哀傷",
    "surprise": "惊讶, 吃惊, 惊奇, 惊喜, 驚訝, 吃驚, 驚奇, 驚喜",
    "neutral": "中性, 中立, 无表情, 無表情",
    "contempt": "蔑视, 轻蔑, 鄙视, 轻视, 蔑視, 輕蔑, 鄙視, 輕視",
}

_GERMAN = {
    "angry": "wütend, wut, ärger, verärgert, zorn, zornig, wuetend, aerger, veraergert",
    "disgust": "ekel, angeekelt, angewidert",
    "fear": "angst, ängstlich, furcht, aengstlich",
    "happy": "glücklich, fröhlich, freude, glück, gluecklich, froehlich, glueck",
    "sad": "traurig, trauer, traurigkeit",
    "surprise": "überrascht, überraschung, ueberrascht, ueberraschung",
    "neutral": "neutralität",
    "contempt": "verachtung, verächtlich, veraechtlich",
}

_FRENCH = {
    "angry": "colère, en colère, fâché, fâchée",
    "disgust": "dégoût, dégoûté, dégoûtée",
    "fear": "peur, effrayé, effrayée, apeuré, apeurée",
    "happy": "heureux, heureuse, bonheur, joie, joyeux, joyeuse",
    "sad": "triste, tristesse",
    "surprise": "surpris",
    "neutral": "neutre",
    "contempt": "mépris, méprisant, méprisante",
}

_SPANISH = {
    "angry": "enojado, enojada, enojo, enfadado, enfadada, enfado, ira",
    "disgust": "asco, asqueado, asqueada, repugnancia",
    "fear": "miedo, temor, asustado, asustada",
    "happy": "feliz, felicidad, alegría, alegre",
    "sad": "triste, tristeza",
    "surprise": "sorpresa, sorprendido, sorprendida",
    "neutral": "neutro, neutra",
    "contempt": "desprecio",
}

_ITALIAN = {
    "angry": "rabbia, arrabbiato, arrabbiata",
    "disgust": "disgusto, disgustato, disgustata",
    "fear": "paura, spaventato, spaventata, impaurito, impaurita",
    "happy": "felice, felicità, gioia",
    "sad": "tristezza",
    "surprise": "sorpreso, sorpresa",
    "neutral": "neutrale",
    "contempt": "disprezzo",
}

_PORTUGUESE = {
    "angry": "raiva, zangado, zangada",
    "disgust": "nojo",
    "fear": "medo, assustado, assustada",
    "happy": "felicidade, alegria",
    "sad": "tristeza",
    "surprise": "surpresa, surpreso",
    "neutral": "neutro",
    "contempt": "desprezo",
}

_TURKISH = {
    "angry": "kızgın, kızgınlık, öfke, öfkeli, sinirli",
    "disgust": "iğrenme, iğrenmiş, tiksinme, tiksinti",
    "fear": "korku, korkmuş, korkulu",
    "happy": "mutlu, mutluluk, sevinç, neşeli",
    "sad": "üzgün, üzüntü",
    "surprise": "şaşkın, şaşkınlık, şaşırmış, şaşırma, sürpriz",
    "neutral": "nötr, ifadesiz",
    "contempt": "küçümseme, aşağılama, hor görme",
}

_JAPANESE = {
    "angry": "怒り, 怒る, 怒った, 怒っている",
    "disgust": "嫌悪, 嫌悪感",
    "fear": "恐れ, 恐怖, 怖れ",
    "happy": "喜び, 幸せ, 幸福, 嬉しい, うれしい",
    "sad": "悲しみ, 悲しい",
    "surprise": "驚き, 驚いた, 驚愕",
    "neutral": "真顔",
    "contempt": "軽蔑, 侮蔑",
}

_KOREAN = {
    "angry": "분노, 화남, 화난, 화나는",
    "disgust": "혐오, 혐오감, 역겨움",
    "fear": "공포, 두려움, 무서움",
    "happy": "행복, 행복한, 기쁨, 기쁜",
    "sad": "슬픔, 슬픈",
    "surprise": "놀람, 놀라움, 놀란",
    "neutral": "중립, 무표정",
    "contempt": "경멸, 멸시",
}

_RUSSIAN = {
    "angry": "злость, гнев, злой, злая, сердитый, сердитая",
    "disgust": "отвращение",
    "fear": "страх, испуг, испуганный, испуганная",
    "happy": "радость, счастье, радостный, радостная, счастливый, счастливая",
    "sad": "грусть, печаль, грустный, грустная, печальный, печальная",
    "surprise": "удивление, удивлённый, удивлённая, удивленный, удивленная",
    "neutral": "нейтральный, нейтральная, нейтрально, нейтральность",
    "contempt": "презрение",
}

_LANGUAGES: tuple[Mapping[str, str], ...] = (
    _ENGLISH,
    _CHINESE,
    _GERMAN,
    _FRENCH,
    _SPANISH,
    _ITALIAN,
    _PORTUGUESE,
    _TURKISH,
    _JAPANESE,
    _KOREAN,
    _RUSSIAN,
)

ALIASES: dict[str, str] = {
    alias: name for language in _LANGUAGES for name, aliases in language.items() for alias in aliases.split(", ")
}
"""Each alias, as `transforms.words.fold` gives it, and the expression that it names."""


def _ordered(names: tuple[str, ...], first: int = 0) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names, first)}


_LETTERS = {"an": "angry", "di": "disgust", "ha": "happy", "ne": "neutral", "sa": "sad", "su": "surprise"}

CODES: dict[str, Mapping[str, str]] = {
    # Goodfellow et al. 2013, "Challenges in representation learning": the column `emotion` of fer2013.csv
    "fer2013": _ordered(EXPRESSIONS[:7]),
    # Barsoum et al. 2016, github.com/microsoft/FERPlus: the order of the columns of fer2013new.csv
    "ferplus": {
        **_ordered(("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")),
        "8": "unknown",
        "9": "not a face",
        "nf": "not a face",
    },
    # Mollahosseini et al. 2017, table 2 and the column `expression` of training.csv
    "affectnet": _ordered(
        ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt", "none", "uncertain", "no face")
    ),
    # Li, Deng, Du 2017, the read-me of the basic set: EmoLabel/list_patition_label.txt counts from 1
    "rafdb": _ordered(("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"), 1),
    # Lucey et al. 2010, the read-me of the emotion labels
    "ckplus": _ordered(("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")),
    # Lyons et al. 1998: the letters in the names of the files
    "jaffe": {**_LETTERS, "fe": "fear"},
    # Lundqvist, Flykt, Ohman 1998: the letters in the names of the files
    "kdef": {**_LETTERS, "af": "fear"},
    # Livingstone, Russo 2018: the third part of the names of the files
    "ravdess": _ordered(("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise"), 1),
}
"""What codes stand for, by data set: an expression, or what is none. Applied only where declared or proven."""
