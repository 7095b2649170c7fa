
Í
legacy.proto"Ÿ
Legacy
id (Rid
name (	:no	nameRname
rate (:-1.5Rrate
on (:trueRon#
kind (2.Legacy.Kind:BRkind#
extra (
2.Legacy.ExtraRextra
packed (BRpacked 
tree (2.Legacy.NodeRtreeS
Extra
x (Rx&
deep (
2.Legacy.Extra.DeepRdeep
Deep
y (	Ry>
Node
v (Rv(
children (2.Legacy.NodeRchildren"
Kind
A
B*dÈ:
more.Legacyd (Rmore