
Õ
defaults.proto"Â
Defaults8
raw (:&\000\001\177\377\n\"\\\'\303\2511\0001Rraw
text (:a\tbRtext
name (	:	tÃ©Ã©A
\nRname
hex (:-31Rhex
octal (:15Roctal*
large (:18446744073709551615Rlarge
whole (:16Rwhole
endless (:-infRendless
minus	 (:-5Rminus
none
 (Rnone