<?xml version="1.0" encoding="UTF-8"?>
<tileset version="1.10" tiledversion="1.10.2" name="wildmesh" tilewidth="16" tileheight="16" tilecount="48" columns="8">
 <image source="tileset.png" width="128" height="96"/>
 <tile id="0" type="deep_water">
  <properties>
   <property name="colour" type="color" value="#ff3f7fa6"/>
   <property name="walkable" type="bool" value="false"/>
   <property name="water" type="bool" value="true"/>
  </properties>
 </tile>
 <tile id="1" type="shallow_water">
  <properties>
   <property name="colour" type="color" value="#ff7cc4c6"/>
   <property name="walkable" type="bool" value="false"/>
   <property name="water" type="bool" value="true"/>
  </properties>
 </tile>
 <tile id="2" type="beach">
  <properties>
   <property name="colour" type="color" value="#ffefdfb2"/>
   <property name="walkable" type="bool" value="true"/>
  </properties>
 </tile>
 <tile id="3" type="grass">
  <properties>
   <property name="colour" type="color" value="#ffabc878"/>
   <property name="walkable" type="bool" value="true"/>
  </properties>
 </tile>
 <tile id="4" type="meadow">
  <properties>
   <property name="colour" type="color" value="#ffc4d78a"/>
   <property name="walkable" type="bool" value="true"/>
  </properties>
 </tile>
 <tile id="5" type="forest">
  <properties>
   <property name="colour" type="color" value="#ff74a065"/>
   <property name="walkable" type="bool" value="true"/>
  </properties>
 </tile>
 <tile id="6" type="rock">
  <properties>
   <property name="colour" type="color" value="#ffb3a696"/>
   <property name="walkable" type="bool" value="true"/>
  </properties>
 </tile>
 <tile id="7" type="cliff">
  <properties>
   <property name="colour" type="color" value="#ff85796f"/>
   <property name="walkable" type="bool" value="false"/>
  </properties>
 </tile>
 <tile id="16" type="pine"/>
 <tile id="17" type="broadleaf"/>
 <tile id="18" type="palm"/>
 <tile id="19" type="olive"/>
 <tile id="20" type="tangerine"/>
 <tile id="21" type="juniper"/>
 <tile id="22" type="koa"/>
 <tile id="23" type="bamboo"/>
 <tile id="24" type="berry_bush"/>
 <tile id="25" type="azalea"/>
 <tile id="26" type="fern"/>
 <tile id="27" type="herb"/>
 <tile id="28" type="wild_garlic"/>
 <tile id="29" type="vine"/>
 <tile id="30" type="flower"/>
 <tile id="31" type="reed"/>
 <tile id="32" type="stone"/>
 <tile id="33" type="boulder"/>
 <tile id="34" type="basalt"/>
 <tile id="35" type="pumice"/>
 <tile id="36" type="flint"/>
 <tile id="37" type="copper_ore"/>
 <tile id="38" type="iron_ore"/>
 <tile id="39" type="obsidian"/>
 <tile id="40" type="driftwood"/>
 <tile id="41" type="shell"/>
 <tile id="42" type="mushroom"/>
 <tile id="43" type="clay"/>
 <tile id="44" type="sulphur"/>
 <tile id="45" type="log"/>
 <tile id="46" type="coral"/>
 <tile id="47" type="salt"/>
</tileset>
