"""Small talk in scripts without spaces: Japanese, Chinese, Korean (whose endings cling), Thai.

Words and the particles between them, folded as in ``memory.small_talk``.
"""

from __future__ import annotations

import re
from typing import Final

from memory.small_talk import folded

SCRIPT: Final = re.compile(
    "[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u1100-\u11ff\u3131-\u318e]"
)
"""A character of such a script."""

_UNSPACED_WORDS: Final = frozenset(
    folded(
        """
こんにちは こんばんは おはよう おはようございます やあ もしもし はじめまして よろしく お願いします
ただいま
お帰り ありがとう ありがと ございます ございました どうも 感謝 助かりました 助かる 助かった お疲れ
お疲れさま
様 さま でした おやすみ なさい またね また明日 じゃあね じゃあ じゃ さようなら さよなら バイバイ
はい うん ええ いいえ いや いいね いいよ 了解 りょうかい 承知 わかった わかりました 分かった
分かりました
なるほど そうですね そうです そう だね 大丈夫 オッケー オーケー すごい さすが 素晴らしい 最高 完璧
面白い
おもしろい うける 笑 草 ウケる ごめん なさい すみません 失礼 本当に 本当 ほんと マジで マジ えっ
へえ うーん
元気 調子 どう 疲れた 眠い 暇 お腹すいた 寒い 暑い 続けて 続き お願い ください 冗談 ジョーク
言って 話して
です ます ね よ か な だ と も は の を に が とても すごく 今日 明日 また 私 君 あなた 誰 何
できます できる の
你好 您好 嗨 哈喽 早上 早安 早 上午 中午 下午 晚上 好 晚安 再见 拜 拜拜 回头见 明天 见 回见 待会
谢谢 多谢 感谢
谢 非常 太 很 真 不 是 的 了 啊 吧 呢 吗 哦 噢 嗯 呀 啦 嘛 你 您 我 行 可以 没问题 没事 没关系
不客气 不用
明白 知道 懂 收到 当然 对 不错 厉害 棒 完美 好玩 有趣 有意思 哈 呵 嘿 笑 死 对不起 抱歉 不好意思
真的 天 哪
最近 怎么样 怎样 在 吃 饭 累 无聊 困 饿 冷 热 继续 讲 个 笑话 开心 加油 生日 新年 圣诞 快乐 周末
愉快 今天 天气
谁 什么 叫 名字 机器人 辛苦 帮 大忙
안녕 하세요 안녕하세요 안녕히 가세요 주무세요 고마워 고마워요 감사 감사합니다 합니다 네 예 아니요
아니 응 좋아
좋아요 알겠습니다 알겠어 알았어 그래 그래요 미안 미안해 죄송합니다 ㅋ ㅎ 잘 자 자요 잘자 정말 진짜
대박 와 오케이
수고 하셨습니다 반가워 반갑습니다 계속 계속해 해줘 농담
สวัสดี ขอบคุณ ครับ ค่ะ คะ มาก ลาก่อน ใช่ ไม่ โอเค
"""
    ).split()
)

UNSPACED: Final = re.compile("|".join(sorted(_UNSPACED_WORDS, key=len, reverse=True)))
"""Small talk in scripts without spaces: a line of which nothing is left without these. Words of
one character are among them, so nothing else may be."""

UNSPACED_ASKING: Final = re.compile(
    "[?\uff1f]|什么|谁|哪|怎|吗|几|多少|誰|何|どこ|いつ|どう(?!も|ぞ)|누구|뭐|어디|언제"
)
UNSPACED_SELF: Final = re.compile("我|咱|私|僕|俺|うち|나|내|저|제|우리")
UNSPACED_YOU: Final = re.compile(
    "你|您|君|あなた|元気|調子|できます|怎么样|本当|ほんと|マジ|真的|정말|진짜"
)
